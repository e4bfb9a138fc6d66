//! libFuzzer on the target that `FUZZ_TARGET` names; its seeds are written into `FUZZ_CORPUS` first.
#![no_main]

use std::sync::OnceLock;

use coracle_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let names = || coracle_fuzz::TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(" ");
        let target = coracle_fuzz::find(&name).unwrap_or_else(|| panic!("no target {name:?}; there are: {}", names()));
        if let Some(corpus) = std::env::var_os("FUZZ_CORPUS") {
            for (number, seed) in (target.seeds)().iter().enumerate() {
                std::fs::write(std::path::Path::new(&corpus).join(format!("seed-{number}")), seed).expect("it is written");
            }
        }
        TARGET.get_or_init(|| target);
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);
