//! `install.sh` and the script it leaves, by dash and by busybox ash, in a mount namespace where nothing of the machine is touched.

use crate::harness::cache;
use crate::harness::namespace::{NODE_IP, NetworkNamespace};
use crate::harness::server::CORACLE;

/// Runs as root with $1: shell, $2: checkout, $3: binary, $4: node's address, $5: an image archive.
const SCRIPT: &str = r#"
set -eu
shell=$1 checkout=$2 binary=$3 address=$4 image=$5
scratch=$(mktemp -d)
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$scratch/upper,workdir=$scratch/work" /etc
for directory in /run /var/lib /var/log /usr/local/bin /usr/local/lib; do mount -t tmpfs tmpfs "$directory"; done
cp "$binary" /usr/local/bin/coracle
# A fresh machine has none.
! kubectl=$(command -v kubectl) || mount --bind /dev/null "$kubectl"
export INSTALL_CORACLE_SKIP_DOWNLOAD=true
# This namespace began with a copy of the machine's mounts, other tests' among them.
mounts() { cut -d' ' -f1-3 /proc/self/mounts | sort; }
mounts >"$scratch/before"
$shell "$checkout/install.sh" --node-ip "$address"
first=$(cat /run/coracle.pid)
$shell "$checkout/install.sh"
[ "$first" = "$(cat /run/coracle.pid)" ] || { echo "a second run restarted the server"; exit 1; }
coracle images import "$image"
coracle kubectl apply -f - <<EOF
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: nginx, image: "nginx:1.22"}]}
EOF
coracle kubectl wait --for=condition=Ready pod/web --timeout=30s
[ -d /var/lib/kubelet/pods ] || { echo "pods are not where drivers expect them"; exit 1; }
$shell /usr/local/bin/coracle-uninstall.sh
for left in /etc/coracle /var/lib/coracle /var/lib/kubelet /var/log/pods /var/log/coracle.log /run/coracle* /run/containerd \
    /usr/local/bin/* /usr/local/lib/*; do
    [ ! -e "$left" ] || { echo "left behind: $left"; exit 1; }
done
mounts >"$scratch/after"
left=$(comm -13 "$scratch/before" "$scratch/after")
[ -z "$left" ] || { echo "mounts are left: $left"; exit 1; }
! nft list tables | grep coracle || { echo "a table is left"; exit 1; }
! ip -o link | grep -v -e lo: -e node0 -e node1 || { echo "interfaces are left"; exit 1; }
umount -l /etc
umount "$scratch" || umount -l "$scratch"
rmdir "$scratch"
"#;

fn install_with(shell: &str) {
    let namespace = NetworkNamespace::new();
    let image = cache("CORACLE_IMAGES", "images").join("nginx.tar.gz");
    let output = namespace
        .command("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "install-test", shell])
        .args([env!("CARGO_MANIFEST_DIR"), CORACLE, NODE_IP])
        .arg(&image)
        .env_remove("KUBECONFIG")
        .output()
        .expect("util-linux is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("waiting for the node to be Ready"), "it shows what it waits for: {said}");
}

#[test]
fn dash_installs_and_uninstalls() {
    install_with("dash");
}

#[test]
fn busybox_installs_and_uninstalls() {
    install_with("busybox ash");
}
