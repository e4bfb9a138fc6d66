//! `kubectl apply -f`: server-side apply.

use std::process::ExitCode;

use coracle_client::path;
use http::Method;

use super::line::Line;
use super::manifest;
use super::session::Session;
use super::target::{display, with_query};
use crate::Failure;

pub async fn run(session: &Session, line: &Line) -> Result<ExitCode, Failure> {
    let manifests = manifest::read(line.values("filename"))?;
    let manager = line.value("field-manager").unwrap_or("kubectl");
    let force = line.value("force-conflicts").unwrap_or_default();
    let mut failed = false;
    for manifest in manifests {
        let namespace = manifest.namespace.as_deref().unwrap_or(&session.namespace);
        let target = path::object(&manifest.resource, namespace, &manifest.name);
        let target = with_query(target, &[("fieldManager", manager), ("force", force)]);
        let applied = session.send(Method::PATCH, &target, "application/apply-patch+yaml", &manifest.object).await;
        match applied {
            Ok(_) => println!("{} serverside-applied", display(&manifest.resource, &manifest.name)),
            Err(error) => {
                failed = true;
                eprintln!("{}: {error}", display(&manifest.resource, &manifest.name));
            }
        }
    }
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
