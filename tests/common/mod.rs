//! What the tests of the C face share: the library as it ships, C programs compiled for the test, and runs with a time limit.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a program may take, unless a test says otherwise: a deadlock is a failure, not a hang.
pub const TIME_LIMIT: Duration = Duration::from_secs(300);

/// The kernel's page, simulated or not, in bytes; the programs of the tests are told of a simulated one.
pub const PAGE: usize = match () {
    () if cfg!(simulated_page = "65536") => 65_536,
    () if cfg!(simulated_page = "16384") => 16_384,
    () => 4096,
};

/// A folder for this build's test files; it lies in cargo's target folder.
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// `libterrace.so` of the release profile, built when it is first asked for.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| build_library(folder().parent().expect("the folder lies in the target folder"), &[]))
}

/// Builds something of this workspace in the release profile.
pub fn build(target: &Path, arguments: &[&str]) {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target-dir"])
        .arg(target)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be started");
    assert!(built.status.success(), "{arguments:?} was not built:\n{}", String::from_utf8_lossy(&built.stderr));
}

/// Builds `libterrace.so` with further arguments for cargo; gives its path.
pub fn build_library(target: &Path, arguments: &[&str]) -> PathBuf {
    build(target, &[&["--package", "terrace-capi"], arguments].concat());
    let library = target.join(foreign_target().unwrap_or_default()).join("release/libterrace.so");
    assert!(library.exists(), "{} was not built", library.display());
    library
}

/// The target that cargo builds for, if it was told one.
fn foreign_target() -> Option<String> {
    std::env::var("CARGO_BUILD_TARGET").ok()
}

/// A command for a program of the tests: by cargo's runner for the target, where there is one, as for the tests themselves.
pub fn program(path: &Path) -> Command {
    let variable = |target: String| format!("CARGO_TARGET_{}_RUNNER", target.to_uppercase().replace('-', "_"));
    let Some(runner) = foreign_target().and_then(|target| std::env::var(variable(target)).ok()) else {
        return Command::new(path);
    };
    let mut words = runner.split_whitespace();
    let mut command = Command::new(words.next().expect("a runner has a name"));
    command.args(words).arg(path);
    command
}

/// Compiles a source of `tests/c/` with further arguments for the compiler; gives the program's, or shared object's, path.
pub fn compile(source: &str, arguments: &[&str]) -> PathBuf {
    let is_cpp = source.ends_with(".cpp");
    let (variable, usual) = if is_cpp { ("CXX", "g++") } else { ("CC", "gcc") };
    let compiler = std::env::var(variable).unwrap_or_else(|_| usual.into());
    let output = folder().join(source.replace('.', "_"));
    // Other processes may be compiling the same source: each writes a file of its own, and the last one's stays.
    let draft = output.with_extension(std::process::id().to_string());
    let compiled = Command::new(&compiler)
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-fno-builtin"])
        // The tests call the functions wrongly on purpose.
        .args([
            "-Wno-use-after-free",
            "-Wno-free-nonheap-object",
            "-Wno-alloc-size-larger-than",
            "-Wno-unused-function",
        ])
        .arg(if is_cpp { "-std=gnu++17" } else { "-std=gnu17" })
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(source))
        .args(arguments)
        .arg("-o")
        .arg(&draft)
        .arg("-ldl")
        .output()
        .unwrap_or_else(|error| panic!("the tests of the C face need {compiler}: {error}"));
    assert!(compiled.status.success(), "{source}:\n{}", String::from_utf8_lossy(&compiled.stderr));
    std::fs::rename(&draft, &output).expect("the compiled program can be moved into place");
    output
}

/// A command whose malloc is the library's.
pub fn preloaded(path: &Path) -> Command {
    let mut command = program(path);
    command.env("LD_PRELOAD", library());
    if cfg!(simulated_page) {
        command.env("SIMULATED_PAGE", PAGE.to_string());
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TERRACE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the command to its end, and no longer than `limit`.
pub fn run_within(command: &mut Command, limit: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait(&mut child, limit);
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let Some(status) = status else {
        panic!("{command:?} was not done after {limit:?}; it said: {}", String::from_utf8_lossy(&stderr));
    };
    Output { status, stdout, stderr }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).expect("the program's output can be read");
        }
        bytes
    })
}

fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("the program can be waited for") {
            return Some(status);
        }
        if Instant::now() > end {
            child.kill().expect("the program can be killed");
            child.wait().expect("the program can be waited for");
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asserts that a program ended well and had nothing to complain of.
#[track_caller]
pub fn assert_fine(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}; it said: {said}", output.status);
    assert_eq!(said, "", "something was said on standard error");
}

/// Asserts that a program died of SIGABRT after one line on standard error, `terrace: ` and a sentence; gives the sentence.
#[track_caller]
pub fn assert_reported(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}; it said: {said}", output.status);
    // What the emulator of a foreign processor adds.
    let said = said.trim_end_matches("qemu: uncaught target signal 6 (Aborted) - core dumped\n");
    let line = said.strip_suffix('\n').unwrap_or_else(|| panic!("not a whole line: {said:?}"));
    assert!(!line.contains('\n'), "more than one line: {said}");
    line.strip_prefix("terrace: ").unwrap_or_else(|| panic!("not by the allocator: {said}")).to_owned()
}
