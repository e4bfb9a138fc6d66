//! Drives a Kubernetes API and prints what it measured as one line of JSON; `tests/bench/run` starts it.
//!
//! One thread and one HTTP/2 client without layers, so that on a shared machine as little as possible of what is
//! measured is the generator; its own CPU time stands in every answer all the same.

use std::process::ExitCode;

use serde_json::{Value, json};

mod arguments;
mod body;
mod connection;
mod fan_out;
mod figures;
mod kubeconfig;
mod requests;
mod schedule;

use arguments::Arguments;

const USAGE: &str = "\
Usage: load COMMAND --kubeconfig FILE OPTION...

  requests   --operation create|get|update|patch|apply|delete|list --path PATH [--body FILE] [--patch FILE]
             [--objects N] [--first N] [--count N] [--in-flight N] [--connections N] [--encoding json|protobuf]
             [--accept TYPE] [--query QUERY]
             Objects are named by the body's metadata.name with seven digits for `@@@@@@@`; `%%%%%%%` is another
             number at each write, `~` the last digit of the name. A list asks for PATH and follows its pages.
  fan-out    --path PATH --body FILE [--watchers N] [--stalled N] [--rate N] [--seconds N] [--objects N]
             Watches PATH on a connection each while objects are updated (rate 0: as fast as they go); the delay is
             from the request to the event. Stalled watchers come on top and never read.
  schedule   --path PATH --body FILE [--count N] [--in-flight N]
             Creates pods and watches until each is bound.
";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run()));
    match outcome {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<Value> {
    let arguments = Arguments::read()?;
    match arguments.command.as_str() {
        "requests" => requests::run(&arguments).await,
        "fan-out" => fan_out::run(&arguments).await,
        "schedule" => schedule::run(&arguments).await,
        _ => {
            print!("{USAGE}");
            Ok(json!({}))
        }
    }
}
