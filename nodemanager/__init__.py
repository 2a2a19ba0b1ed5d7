"""The Arvados node manager: container dispatcher and cloud node manager, built of actors."""

__version__ = "2.0.0.dev0"
