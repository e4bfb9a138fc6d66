//! Every parser that reads what others send, as a function of bytes that must not panic, hang or eat memory.
//!
//! `tests/fuzz/run` drives them with libFuzzer; the tests here run each on its seeds, on seeds cut short, and on the inputs
//! under `found/TARGET` that once did harm.

pub mod config;
pub mod dns;
pub mod node;
pub mod objects;
pub mod patches;
pub mod requests;
pub mod streams;
pub mod tokens;

/// One parser.
pub struct Target {
    pub name: &'static str,
    /// Panics where the parser breaks a promise.
    pub run: fn(&[u8]),
    /// Inputs to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

pub const TARGETS: &[Target] = &[
    target("json", objects::json, objects::json_seeds),
    target("yaml", objects::yaml, objects::yaml_seeds),
    target("protobuf", objects::protobuf, objects::protobuf_seeds),
    target("selectors", objects::selectors, objects::selector_seeds),
    target("quantities", objects::quantities, objects::quantity_seeds),
    target("json-patch", patches::json, patches::json_seeds),
    target("merge-patch", patches::merge, patches::merge_seeds),
    target("strategic-patch", patches::strategic, patches::strategic_seeds),
    target("apply", patches::apply, patches::apply_seeds),
    target("targets", requests::targets, requests::target_seeds),
    target("requests", requests::requests, requests::request_seeds),
    target("tokens", tokens::tokens, tokens::token_seeds),
    target("certificates", tokens::certificates, tokens::certificate_seeds),
    target("spdy", streams::spdy, streams::spdy_seeds),
    target("websocket", streams::websocket, streams::websocket_seeds),
    target("tunnel", streams::tunnel, streams::websocket_seeds),
    target("remote-command", streams::remote_command, streams::remote_command_seeds),
    target("dns", dns::packets, dns::seeds),
    target("log-lines", node::log_lines, node::log_seeds),
    target("image-archives", node::archives, node::archive_seeds),
    target("cni", node::cni, node::cni_seeds),
    target("config", config::options, config::option_seeds),
    target("kubeconfig", config::kubeconfig, config::kubeconfig_seeds),
];

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The parts of an input that takes several texts, divided by zero bytes; missing ones are empty.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = data.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| rest.next().unwrap_or_default())
}

/// The parts that `parts` gives back.
fn joined(parts: &[&str]) -> Vec<u8> {
    parts.join("\0").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The seed, and what is left of it when the connection breaks.
    fn cut(seed: &[u8]) -> impl Iterator<Item = &[u8]> {
        (0..=8).map(|part| &seed[..seed.len() * part / 8])
    }

    #[test]
    fn seeds_do_no_harm_whole_or_cut_short() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has seeds", target.name);
            seeds.iter().flat_map(|seed| cut(seed)).for_each(target.run);
        }
    }

    #[test]
    fn what_did_harm_does_no_more() {
        let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
        for directory in std::fs::read_dir(found).into_iter().flatten().flatten() {
            let name = directory.file_name().into_string().expect("it is UTF-8");
            let target = find(&name).unwrap_or_else(|| panic!("no target {name}"));
            for file in std::fs::read_dir(directory.path()).expect("a directory a target").flatten() {
                (target.run)(&std::fs::read(file.path()).expect("it is readable"));
            }
        }
    }
}
