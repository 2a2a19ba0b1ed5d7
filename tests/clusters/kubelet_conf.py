"""The configuration files and the command line of a real node: containerd, its network and the kubelet.

The paths are the usual ones of a node; on a `RealKubelet`'s host other directories are mounted there.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.clusters.images import PAUSE

NODE_DIRECTORIES = ("/run", "/var/lib", "/var/log")
"""What a node writes to; some of it cannot be configured."""
KERNEL_SETTINGS = (
    "kernel/keys/root_maxbytes", "kernel/keys/root_maxkeys", "kernel/panic", "kernel/panic_on_oops",
    "vm/overcommit_memory", "vm/panic_on_oom",
)  # fmt: skip
"""What a kubelet sets below /proc/sys, for the whole machine."""
SERVICE_ADDRESS = "10.96.0.1"
"""Where pods expect the API server, at 443: the first address of the cluster's services."""
NODE_LABELS: Mapping[str, str] = {"pool": "real"}
TAINT = "only=real:NoSchedule"

_CONTAINERD = """\
version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  # To be killed less likely than others takes a capability that root has not everywhere.
  restrict_oom_score_adj = true
  sandbox_image = "@SANDBOX@"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "@NETWORKS@"
"""


def write_containerd_files(directory: Path, pods: ipaddress.IPv4Network) -> Path:
    """The configuration of containerd and, beside it, that of the network in which pods get their addresses."""
    networks = directory / "networks"
    networks.mkdir()
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(pods)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    network = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}
    (networks / "pods.conflist").write_text(json.dumps(network))
    path = directory / "containerd.toml"
    path.write_text(_CONTAINERD.replace("@SANDBOX@", PAUSE).replace("@NETWORKS@", str(networks)))
    return path


def write_kubelet_config(path: Path, authority: Path, address: str, cgroup: str) -> Path:
    """A kubelet's, which tells of itself often and never runs short of anything."""
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": dict.fromkeys(
            ("memory.available", "nodefs.available", "imagefs.available"), "0%"
        ),
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        # Within the few seconds after which the tests' cluster takes a node for lost.
        "nodeLeaseDurationSeconds": 4,
        "nodeStatusUpdateFrequency": "1s",
        "readOnlyPort": 0,
        "resolvConf": "",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }
    path.write_text(yaml.safe_dump(config))
    return path


def kubelet_arguments(name: str, address: str, config: Path, kubeconfig: Path) -> list[str]:
    """A node of that name; `kubeconfig` is its own, or where it is to write its own."""
    labels = ",".join(f"{label}={value}" for label, value in NODE_LABELS.items())
    return [
        f"--config={config}", f"--kubeconfig={kubeconfig}", f"--hostname-override={name}",
        f"--node-ip={address}", f"--node-labels={labels}", f"--register-with-taints={TAINT}",
        "--container-runtime=remote",
        "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
    ]  # fmt: skip
