"""The distribution arvados-node-manager."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "nodemanager/__init__.py").read_text())
if VERSION is None:
    raise SystemExit("nodemanager/__init__.py: no __version__")

SHARE = Path("share/arvados-node-manager")
"""What operators install from: the example config, units, manifests, dashboards; below the environment's prefix."""


def data_files() -> list[tuple[str, list[str]]]:
    """The files of etc/ as they lie there, and the manual pages if `make man` has made them."""
    folders: dict[str, list[str]] = {}
    for path in sorted((HERE / "etc").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            folder = path.relative_to(HERE / "etc").parent
            folders.setdefault(str(SHARE / folder), []).append(str(path.relative_to(HERE)))
    for path in sorted((HERE / "build" / "man").glob("*.[1-8]")):
        section = f"share/man/man{path.suffix[1:]}"
        folders.setdefault(section, []).append(str(path.relative_to(HERE)))
    return list(folders.items())


setup(
    name="arvados-node-manager",
    version=VERSION.group(1),
    description="Container dispatcher and cloud node manager for Arvados clusters",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    author="The arvados-node-manager authors",
    keywords="arvados slurm grid-engine kubernetes batch scheduler cloud autoscaling workflow",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Environment :: Console",
        "Intended Audience :: System Administrators",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Bio-Informatics",
        "Topic :: System :: Clustering",
        "Topic :: System :: Distributed Computing",
        "Topic :: System :: Systems Administration",
        "Typing :: Typed",
    ],
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["nodemanager", "nodemanager.*"]),
    package_data={"nodemanager": ["py.typed", "clouds/boot.sh", "status/page/*"]},
    include_package_data=False,  # what is said above, and nothing that MANIFEST.in adds to the source
    data_files=data_files(),
    # So that build/man belongs to the source.
    options={"build": {"build_base": "build/python"}},
    install_requires=[
        # What the daemon stands on.
        "pykka>=4.5,<5",
        "apache-libcloud>=3.9,<4",
        "arvados-python-client>=3.2,<4",
        "PyYAML>=6",
        # The table and progress bar of --run, and readable output of --check and of the command line.
        "rich>=13",
        # Makes the completion of bash, zsh and tcsh from the command line's own description.
        "shtab>=1.7,<2",
        # The API server: a small ASGI framework, its HTTP server with C parser and loop, the database
        # toolkit, its migrations and PostgreSQL driver, JSON as fast as the calls want it, metrics in
        # Prometheus' format, and the maker of the self-signed certificate.
        "starlette>=1,<2",
        "uvicorn>=0.30",
        "httptools>=0.6",
        "uvloop>=0.19",
        "SQLAlchemy>=2.0.30,<3",
        "alembic>=1.13,<2",
        "psycopg[binary]>=3.2,<4",
        "orjson>=3.10",
        "prometheus-client>=0.20",
        "cryptography>=42",
    ],
    entry_points={
        "console_scripts": [
            "arvados-node-manager = nodemanager.launcher:main",
            "arvados-dispatch-api = nodemanager.server.main:main",
            "arvados-container-runner = nodemanager.runner.__main__:main",
        ],
        # Scheduler modules of this package and of others are found by these names.
        "arvados_node_manager.schedulers": [
            "local = nodemanager.schedulers.local:LocalScheduler",
            "fake = nodemanager.schedulers.fake:FakeScheduler",
        ],
        # Cloud drivers, likewise.
        "arvados_node_manager.clouds": [
            "ec2 = nodemanager.clouds.ec2:Ec2",
            "gce = nodemanager.clouds.gce:Gce",
            "azure = nodemanager.clouds.azure:Azure",
            "openstack = nodemanager.clouds.openstack:OpenStack",
            "dummy = nodemanager.clouds.dummy:Dummy",
            "loopback = nodemanager.clouds.loopback:Loopback",
            "fake = nodemanager.clouds.fake:FakeCloud",
        ],
    },
    extras_require={
        # For `scheduler = kubernetes`: the official client, for its ways to log in (kubeconfig, plugins, service
        # accounts) and its connections.
        "kubernetes": ["kubernetes>=31", "urllib3>=2.3"],
        "test": [
            "arvados-node-manager[kubernetes]",
            "pytest>=8",
            "pytest-timeout",
            "pytest-xdist",
            "hypothesis>=6.100",
            # The linear programs that packing is compared with, in tests and benchmarks.
            "scipy>=1.11",
            # An imitation of EC2 and its HTTP server. Not moto[server]: that brings 30 packages more, for
            # services that we do not talk to.
            "moto[ec2]>=5.2,<6",
            # Drives the Chromium that looks at the page.
            "playwright>=1.50",
            "Flask>=3",
            "flask-cors>=6",
        ],
        # The pages below docs/ as a site and a man page, and its theme.
        "docs": ["sphinx>=8", "myst-parser>=4", "furo"],
        "lint": ["ruff>=0.6", "mypy>=1.11", "types-PyYAML"],
    },
)
