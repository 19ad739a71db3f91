//! `scenario list | NAME [--scale FACTOR] [--hour SECONDS]`: plays a scenario on whichever `malloc` the dynamic linker found, and
//! writes its figures and what was resident and live over time, as lines of JSON. An hour of `drift` takes a minute if not said
//! otherwise.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;
use terrace_bench::process::provider;
use terrace_bench::scenarios::stage::{HOUR, OwnMemory, Stage};
use terrace_bench::scenarios::{self, SCENARIOS};

#[global_allocator]
static OWN: OwnMemory = OwnMemory;

const USAGE: &str = "use: list | NAME [--scale FACTOR] [--hour SECONDS]";

fn play(name: &str, scale: f64, hour: Duration) -> Result<String, String> {
    let scenario = scenarios::find(name).ok_or(format!("there is no scenario {name}; see `list`"))?;
    let stage = Stage::new(scale, hour);
    let figures = stage.watched(scenario.play);
    let mut text = format!("{{\"provider\": {:?}, \"figures\": [", provider());
    for (index, figure) in figures.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(
            text,
            "{comma}{{\"what\": {:?}, \"value\": {:.4}, \"target\": {:.4}, \"limit\": {:.4}}}",
            figure.what,
            figure.value,
            figure.target,
            figure.reached.unwrap_or(figure.target)
        );
    }
    text.push_str("], \"looks\": [");
    for (index, look) in stage.looks().iter().enumerate() {
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(
            text,
            "{comma}[{:.3}, {:.2}, {:.2}, {:.2}]",
            look.seconds,
            mib(look.resident),
            mib(look.live),
            mib(look.floor)
        );
    }
    text.push_str("]}");
    Ok(text)
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let number = |text: &str| text.parse::<f64>().map_err(|_| format!("{text} is not a number"));
    let (name, mut rest) = match arguments {
        ["list"] => {
            SCENARIOS.iter().for_each(|it| println!("{{\"scenario\": {:?}, \"what\": {:?}}}", it.name, it.what));
            return Ok(());
        }
        [name, rest @ ..] => (*name, rest),
        [] => return Err(USAGE.into()),
    };
    let (mut scale, mut hour) = (1.0, HOUR);
    while let [option, value, further @ ..] = rest {
        match *option {
            "--scale" => scale = number(value)?,
            "--hour" => hour = Duration::try_from_secs_f64(number(value)?).map_err(|error| error.to_string())?,
            _ => return Err(USAGE.into()),
        }
        rest = further;
    }
    if !rest.is_empty() {
        return Err(USAGE.into());
    }
    if !(scale > 0.0 && scale <= 16.0) {
        return Err(format!("{scale}: the scale must lie above zero, and be 16 at most"));
    }
    println!("{}", play(name, scale, hour)?);
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("scenario: {message}");
            ExitCode::FAILURE
        }
    }
}
