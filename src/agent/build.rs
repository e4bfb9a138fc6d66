//! Compiles the runtime's protocol files; protox reads them, so no protoc is needed.

fn main() {
    let services = ["content", "events", "images", "leases", "namespaces", "types"];
    let mut files: Vec<String> = services.iter().map(|name| format!("containerd/{name}.proto")).collect();
    files.extend(["cri.proto".to_owned(), "grpc_health.proto".to_owned()]);
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"]).expect("the protocol files are part of this crate");
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .expect("the output directory can be written");
}
