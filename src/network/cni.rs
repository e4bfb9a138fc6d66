//! The CNI plugin and the agent's side of it.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;

pub mod addresses;
pub mod link;
pub mod plugin;
pub mod protocol;
pub mod server;

pub use plugin::{LOOPBACK, PLUGIN, dispatch, plugin_main};
pub use server::{Server, ServerConfig, ServerError};

/// Writes the network configuration that containerd reads into `directory`, if it is not there in this form. `socket` is the server's.
pub fn write_conf(directory: &Path, instance: &str, socket: &Path) -> io::Result<()> {
    let plugin = json!({"type": PLUGIN, "socket": socket, "capabilities": {"portMappings": true}});
    let configuration =
        json!({"cniVersion": "1.0.0", "name": format!("coracle-{instance}"), "plugins": [plugin]}).to_string();
    fs::create_dir_all(directory)?;
    let file = directory.join("10-coracle.conflist");
    if fs::read_to_string(&file).is_ok_and(|present| present == configuration) {
        return Ok(());
    }
    let temporary = directory.join(".10-coracle.conflist.new");
    fs::write(&temporary, configuration)?;
    fs::rename(temporary, file)
}

/// Makes `directory` a plugin directory: links named after the plugins, to `executable`, whose `main` calls `dispatch` first.
pub fn install_plugins(directory: &Path, executable: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for name in [PLUGIN, LOOPBACK] {
        let link = directory.join(name);
        if fs::read_link(&link).is_ok_and(|target| target == executable) {
            continue;
        }
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::os::unix::fs::symlink(executable, &link)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
