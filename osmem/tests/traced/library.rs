//! The library under test in its two editions, and C programs linked against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// One of the two builds of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edition {
    /// Bytes of its header.
    pub header: usize,
}

pub const EDITIONS: [Edition; 2] = [Edition { header: 24 }, Edition { header: 32 }];

impl Edition {
    /// The folder that holds this edition's `libosmem.so`, built on first use.
    pub fn library_folder(self) -> &'static Path {
        static BUILT: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
        BUILT[usize::from(self.header == 32)].get_or_init(|| self.build())
    }

    fn build(self) -> PathBuf {
        let target = scratch().join(format!("edition-{}", self.header));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--release", "--lib", "--manifest-path"]);
        cargo.arg(package().join("Cargo.toml")).arg("--target-dir").arg(&target);
        if self.header == 32 {
            cargo.args(["--features", "header-32"]);
        }
        // Flags of an instrumented test run are not meant for the library that programs get.
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        run(&mut cargo);
        target.join("release")
    }

    /// A program of this folder, ready to run; compiled on first use.
    pub fn program(self, source: &'static str) -> PathBuf {
        static COMPILED: Mutex<BTreeMap<(&str, usize), PathBuf>> = Mutex::new(BTreeMap::new());
        let mut compiled = COMPILED.lock().expect("no compilation failed");
        compiled.entry((source, self.header)).or_insert_with(|| self.compile(source)).clone()
    }

    fn compile(self, source: &str) -> PathBuf {
        let folder = self.library_folder();
        let name = source.trim_end_matches(".c");
        let program = scratch().join(format!("{name}-{}", self.header));
        let mut gcc = Command::new("gcc");
        gcc.args(["-g", "-O2", "-Wall", "-Wextra", "-Werror", "-I"]).arg(package());
        if self.header == 32 {
            gcc.arg("-DOSMEM_HEADER_32");
        }
        gcc.arg(package().join("tests/traced").join(source)).arg("-o").arg(&program);
        // The old kind of search path, since it comes before LD_LIBRARY_PATH, in which cargo lists other builds.
        let search_path = format!("-Wl,--disable-new-dtags,-rpath,{}", folder.display());
        gcc.arg("-L").arg(folder).arg("-losmem").arg(search_path);
        run(&mut gcc);
        program
    }
}

pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Runs a command that must succeed, and returns what it wrote to standard output.
pub fn run(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{name} cannot be started: {error}; is its package installed?"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}
