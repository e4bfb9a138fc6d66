"""Upstream's programs as a control plane, set up as kubeadm does where it matters for cost: client certificates, Node and RBAC."""
import json
import subprocess
import time

from subject import ADDRESS, Subject, upstream

SERVICES = "10.43.0.0/16"


class Upstream(Subject):
    """kube-apiserver on etcd, which syncs, and what of the scheduler and the controller manager is named."""

    def __init__(self, *programs):
        super().__init__()
        self.programs = programs

    def __enter__(self):
        super().__enter__()
        self._certificates()
        return self

    def _openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.directory.name)

    def _certificates(self):
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "7"]
        self._openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=bench")
        names = [("admin", "/O=system:masters/CN=admin", ""), ("server", "/CN=kube-apiserver", f"subjectAltName=IP:{ADDRESS},IP:127.0.0.1,IP:10.43.0.1"),
                 ("scheduler", "/CN=system:kube-scheduler", ""), ("controllers", "/CN=system:kube-controller-manager", "")]
        for name, subject, more in names:
            self._openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
            with open(self.path("extensions"), "w") as file:
                file.write(f"{more}\n" if more else "basicConstraints=CA:FALSE\n")
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                          "-days", "7", "-out", f"{name}.crt", "-extfile", "extensions")
            self._write_kubeconfig(name, self.kubeconfig if name == "admin" else self.path(f"{name}.yaml"))
        self._openssl("genrsa", "-out", "accounts.key", "2048")

    def _write_kubeconfig(self, user, path):
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": f"https://{ADDRESS}:6443", "certificate-authority": self.path("ca.crt")}}],
            "users": [{"name": user, "user": {"client-certificate": self.path(f"{user}.crt"), "client-key": self.path(f"{user}.key")}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": user}}]}
        with open(path, "w") as file:
            json.dump(config, file)

    def start(self):
        """Starts all; gives the seconds from the first exec to `/readyz` ok."""
        begin = time.monotonic()
        self.spawn("etcd", upstream("etcd"), "--data-dir", self.path("etcd"), "--log-level=error")
        self.spawn(
            "kube-apiserver", upstream("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", f"--advertise-address={ADDRESS}",
            f"--service-account-key-file={self.path('accounts.key')}", f"--service-account-signing-key-file={self.path('accounts.key')}",
            f"--client-ca-file={self.path('ca.crt')}", f"--tls-cert-file={self.path('server.crt')}", f"--tls-private-key-file={self.path('server.key')}")
        took = self.until_ready("kube-apiserver", begin)
        for name in self.programs:
            user = {"kube-scheduler": "scheduler", "kube-controller-manager": "controllers"}[name]
            kubeconfigs = [f"--{flag}={self.path(user)}.yaml" for flag in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")]
            more = [f"--service-account-private-key-file={self.path('accounts.key')}", f"--root-ca-file={self.path('ca.crt')}",
                    "--use-service-account-credentials=true"] if user == "controllers" else []
            self.spawn(name, upstream(name), *kubeconfigs, *more)
        return took
