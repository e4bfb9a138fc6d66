//! `coracle images import` reads every archive form and refuses what is none.

use crate::harness::Server;

#[test]
fn archives_of_every_form_are_imported() {
    let server = Server::with_node(&["busybox.tar", "nginx.tar.gz", "nginx-next.tar.zst"]);
    server.kubectl("run once --image=busybox:1.35 --restart=Never --image-pull-policy=Never -- echo aboard").ok();
    server.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/once --timeout=30s").ok();
    assert_eq!(server.kubectl("logs once").ok(), "aboard");
    let broken = server.directory.path().join("broken.tar");
    std::fs::write(&broken, "not an archive").expect("it is written");
    let data = server.data_directory();
    let refused = server
        .coracle(&["images", "import", "--data-dir", data.to_str().expect("UTF-8"), broken.to_str().expect("UTF-8")])
        .error();
    assert!(refused.contains("broken.tar"), "{refused}");
    assert_eq!(refused.lines().count(), 1, "{refused}");
}
