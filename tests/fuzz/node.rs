//! What the node reads of containers and their runtime: log files, image archives, the CNI plugin's requests.

use std::io::Cursor;

use coracle_agent::images::contents::inspect;
use coracle_agent::node_server::log_file::{Selection, Stream, tail};
use coracle_network::cni::protocol;

use crate::{joined, parts};

/// Lines of a container's log, and where its last ones begin.
pub fn log_lines(data: &[u8]) {
    let since = "2026-01-01T00:00:01Z".parse().ok();
    let all = Selection::default();
    let some = Selection { timestamps: true, since, stream: Some(Stream::Stderr) };
    for selection in [all, some] {
        let mut shown = Vec::new();
        data.split(|byte| *byte == b'\n').for_each(|line| selection.render(line, &mut shown));
        assert!(shown.len() <= data.len() + 1, "nothing is added but a newline");
    }
    for lines in [0, 1, 3, u64::MAX] {
        let start = tail(&mut Cursor::new(data), lines).expect("memory is readable") as usize;
        assert!(start == 0 || start == data.len() || data[start - 1] == b'\n', "a line begins at {start}");
    }
}

pub fn log_seeds() -> Vec<Vec<u8>> {
    vec![
        b"2026-01-01T00:00:00.5Z stdout F one\n2026-01-01T00:00:01Z stderr P tw\n2026-01-01T00:00:02Z stderr F o\n"
            .to_vec(),
        b"2026-01-01T00:00:00Z stdout P:x y\nno line\n\n2026".to_vec(),
    ]
}

/// An archive that is not compressed.
pub fn archives(data: &[u8]) {
    let _ = inspect(data);
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, path, *content).expect("memory is writable");
    }
    builder.into_inner().expect("memory is writable")
}

pub fn archive_seeds() -> Vec<Vec<u8>> {
    let docker = br#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l/layer.tar"]}]"#;
    let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let index = format!(
        r#"{{"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:{digest}","size":2,
        "annotations":{{"org.opencontainers.image.ref.name":"b:2"}}}}]}}"#
    );
    vec![
        tar_of(&[("manifest.json", docker), ("c.json", b"{}"), ("l/layer.tar", b"layer")]),
        tar_of(&[("index.json", index.as_bytes()), (&format!("blobs/sha256/{digest}"), b"{}")]),
    ]
}

/// A request of the plugin, as JSON, and a name to look for in CNI_ARGS.
pub fn cni(data: &[u8]) {
    let [request, name] = parts(data);
    let Ok(request) = serde_json::from_slice::<protocol::Request>(request) else { return };
    let _ = (request.version(), std::str::from_utf8(name).map(|name| request.argument(name).map(str::len)));
}

pub fn cni_seeds() -> Vec<Vec<u8>> {
    let request = r#"{"command":"ADD","container":"c","interface":"eth0","namespace":"/n","arguments":"K8S_POD_NAME=a;X",
        "configuration":{"cniVersion":"1.0.0","runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"protocol":"tcp"}]}}}"#;
    vec![joined(&[request, "K8S_POD_NAME"])]
}
