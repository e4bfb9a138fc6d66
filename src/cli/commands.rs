//! The commands: one row each.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::Failure;
use crate::nearest::hint;

mod agent;
mod images;
mod server;
mod uninstall;
mod version;

/// A command; `run` gets what follows its name.
struct Command {
    name: &'static str,
    usage: &'static str,
    help: &'static str,
    run: fn(&[OsString]) -> Result<ExitCode, Failure>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "server",
        usage: "server [OPTION]...",
        help: "run a server, with a node unless --disable-agent",
        run: server::run,
    },
    Command {
        name: "agent",
        usage: "agent --server URL --token TOKEN [OPTION]...",
        help: "join a server as a further node",
        run: agent::run,
    },
    Command {
        name: "kubectl",
        usage: "kubectl get|apply|delete|wait|logs ...",
        help: "everyday verbs built in; the rest by a kubectl on PATH",
        run: crate::kubectl::run,
    },
    Command {
        name: "images",
        usage: "images import ARCHIVE...",
        help: "bring image archives to the node, without a registry",
        run: images::run,
    },
    Command {
        name: "uninstall",
        usage: "uninstall [--data-dir DIRECTORY] [--yes]",
        help: "remove what a server left on this machine",
        run: uninstall::run,
    },
    Command { name: "version", usage: "version", help: "show versions", run: version::run },
];

/// Runs the command that `arguments` name.
pub fn run(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", help());
        return Ok(ExitCode::from(2));
    };
    let name = name.to_string_lossy();
    match &*name {
        "help" | "--help" | "-h" => {
            print!("{}", help());
            return Ok(ExitCode::SUCCESS);
        }
        "--version" | "-V" => return version::run(rest),
        _ => {}
    }
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(rest),
        None => {
            let names = COMMANDS.iter().map(|command| command.name);
            Err(Failure::usage(format!("unknown command {name:?}{}", hint(&name, names, "coracle "))))
        }
    }
}

fn help() -> String {
    let mut text = "A whole Kubernetes in one executable.\n\nUsage: coracle COMMAND\n\n".to_owned();
    for command in COMMANDS {
        text.push_str(&format!("  {:<42} {}\n", command.usage, command.help));
    }
    text.push_str("\ncoracle server --help lists its options.\n");
    text
}

/// Whether help is asked for among the options of a command.
fn asks_for_help(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| argument == "--help" || argument == "-h")
}
