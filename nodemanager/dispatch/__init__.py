"""The dispatcher: claims containers and sees each through its life, one actor per container."""
