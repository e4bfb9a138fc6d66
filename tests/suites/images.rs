//! `coracle images import` reads every archive form and refuses what is none.

use crate::harness::server::CORACLE;
use crate::harness::{Server, cache};

#[test]
fn archives_of_every_form_are_imported() {
    let server = Server::with_node(&["busybox.tar", "nginx.tar.gz", "nginx-next.tar.zst"]);
    server.kubectl("run once --image=busybox:1.35 --restart=Never --image-pull-policy=Never -- echo aboard").ok();
    server.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/once --timeout=30s").ok();
    assert_eq!(server.kubectl("logs once").ok(), "aboard");
    progress_is_drawn_on_a_terminal(&server);
    let broken = server.directory.path().join("broken.tar");
    std::fs::write(&broken, "not an archive").expect("it is written");
    let data = server.data_directory();
    let refused = server
        .coracle(&["images", "import", "--data-dir", data.to_str().expect("UTF-8"), broken.to_str().expect("UTF-8")])
        .error();
    assert!(refused.contains("broken.tar"), "{refused}");
    assert_eq!(refused.lines().count(), 1, "{refused}");
}

fn progress_is_drawn_on_a_terminal(server: &Server) {
    let data = server.data_directory();
    let archive = cache("CORACLE_IMAGES", "images").join("busybox.tar");
    let line = format!("{CORACLE} images import --data-dir {} {}", data.display(), archive.display());
    let shown = server.namespace.command("script").args(["-qec", &line, "/dev/null"]).output().expect("script starts");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("busybox.tar [") && shown.contains(" %"), "{shown:?}");
    let last = shown.rsplit("\x1b[K").next().unwrap_or_default();
    assert!(last.starts_with("imported ") && !last.contains('%'), "the bar is gone at the end: {shown:?}");
}
