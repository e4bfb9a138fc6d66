//! Compiles the text tables under `tables/` to the schema blob and the catalog.

use std::path::{Path, PathBuf};

#[path = "build/catalog.rs"]
mod catalog;
#[path = "schema/compile.rs"]
mod compile;
#[path = "build/types.rs"]
mod types;

fn main() {
    println!("cargo::rerun-if-changed=tables");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=schema/compile.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if let Err(error) = run(&out) {
        panic!("the tables do not compile: {error}");
    }
}

fn run(out: &Path) -> Result<(), String> {
    let mut served = types::read(Path::new("tables/served"))?;
    let unserved = types::read(Path::new("tables/unserved"))?;
    let everything = [served.as_slice(), unserved.as_slice()].concat();
    complete(&mut served, &unserved);
    switch_off(&mut served, &read(Path::new("tables/off.txt"))?)?;
    write(&out.join("schema.bin"), &compile::compile(&served)?)?;
    write(&out.join("everything.bin"), &compile::compile(&everything)?)?;
    write(&out.join("catalog.rs"), catalog::generate(&read(Path::new("tables/resources.txt"))?)?.as_bytes())
}

/// Adds the types of versions that are not served which served types refer to (batch/v1 names scheduling/v1alpha3).
fn complete(served: &mut Vec<compile::TypeDefinition>, unserved: &[compile::TypeDefinition]) {
    let mut next = 0;
    while next < served.len() {
        let ty = &served[next];
        let references: Vec<String> = std::iter::once(&ty.reference)
            .chain(ty.fields.iter().map(|field| &field.reference))
            .map(|reference| bare(reference).to_owned())
            .collect();
        for reference in references {
            if let Some(found) = unserved.iter().find(|ty| ty.name == reference)
                && !served.iter().any(|ty| ty.name == reference)
            {
                served.push(found.clone());
            }
        }
        next += 1;
    }
}

/// Marks the fields that the table names: `FEATURE TYPE FIELD...`.
fn switch_off(types: &mut [compile::TypeDefinition], table: &str) -> Result<(), String> {
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ').skip(1);
        let name = words.next().unwrap_or_default();
        let ty = types.iter_mut().find(|ty| ty.name == name).ok_or_else(|| format!("off.txt: no type {name}"))?;
        for json in words {
            let field = ty.fields.iter_mut().find(|field| field.json == json);
            field.ok_or_else(|| format!("off.txt: no field {json} of {name}"))?.flags |= compile::OFF;
        }
    }
    Ok(())
}

/// The named type within a list or map reference.
fn bare(mut reference: &str) -> &str {
    while let Some(inner) = reference.strip_prefix("[]").or_else(|| reference.strip_prefix("map:")) {
        reference = inner;
    }
    reference
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}
