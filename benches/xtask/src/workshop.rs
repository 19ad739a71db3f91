//! Builds and installs what a comparison needs, and says what it could not get.

use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Allocators on the C face, in the order of the tables.
pub const C_ALLOCATORS: [&str; 7] =
    ["terrace", "mimalloc-v3", "mimalloc-v2", "jemalloc", "tcmalloc", "snmalloc", "glibc"];
/// Allocators on the Rust face, in the order of the tables.
pub const RUST_ALLOCATORS: [&str; 8] =
    ["terrace", "mimalloc-v3", "mimalloc-v2", "jemalloc", "snmalloc", "rusty-alloc", "rallocator", "glibc"];

/// Rivals that Debian packages: name, package, object.
const DEBIAN: [(&str, &str, &str); 2] = [
    ("jemalloc", "libjemalloc2", "libjemalloc.so.2"),
    ("tcmalloc", "libtcmalloc-minimal4", "libtcmalloc_minimal.so.4"),
];

/// As mimalloc's own release build of its shared library sets them: the names of the C library are aliases of the allocator's
/// functions, and thread-local storage is initial-exec, so that a call takes no detour.
const MIMALLOC_FLAGS: &str = "-O3 -std=gnu11 -DNDEBUG -DMI_BUILD_RELEASE -DMI_CMAKE_BUILD_TYPE=release \
    -DMI_MALLOC_OVERRIDE -DMI_SHARED_LIB -DMI_SHARED_LIB_EXPORT -fPIC -fvisibility=hidden -ftls-model=initial-exec \
    -fno-builtin-malloc -w -shared";

/// As the crate's build script sets them, for snmalloc's own file of the C interface; the C++ library is linked in, so that
/// preloading it brings nothing else along.
const SNMALLOC_FLAGS: &str = "-O3 -std=c++20 -DNDEBUG -DSNMALLOC_USE_WAIT_ON_ADDRESS=1 -fPIC -mcx16 -fno-exceptions \
    -fno-rtti -fomit-frame-pointer -ftls-model=initial-exec -fno-builtin -w -shared -static-libstdc++ -static-libgcc";

/// The programs of the package that every build leaves behind.
const PROGRAMS: [&str; 2] = ["program", "http_serve"];

/// Where things are built, and what has been missed so far.
pub struct Workshop {
    /// The folder of the project.
    pub root: PathBuf,
    /// Where finished programs and objects are kept.
    pub store: PathBuf,
    target: PathBuf,
    bench_target: PathBuf,
    install: bool,
    jobs: Option<u32>,
    /// What could not be had, as sentences.
    pub missing: Vec<String>,
    /// Versions by name.
    pub versions: BTreeMap<String, String>,
}

impl Workshop {
    /// Prepares the folders. `install` allows Debian's packages to be installed.
    ///
    /// # Errors
    /// A sentence, if a folder cannot be made.
    pub fn new(install: bool, jobs: Option<u32>) -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).ok_or("the project has no root")?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let target = std::path::absolute(target).map_err(|error| error.to_string())?;
        let bench_target = target.join("bench");
        let store = bench_target.join("store");
        std::fs::create_dir_all(&store).map_err(|error| format!("{}: {error}", store.display()))?;
        Ok(Self {
            root: root.into(),
            store,
            target,
            bench_target,
            install,
            jobs,
            missing: Vec::new(),
            versions: BTreeMap::new(),
        })
    }

    /// The result of an action, or nothing after noting why it is not to be had.
    pub fn attempt<T>(&mut self, action: impl FnOnce(&mut Self) -> Result<T, String>) -> Option<T> {
        match action(self) {
            Ok(value) => Some(value),
            Err(reason) => {
                eprintln!("not available: {reason}");
                if !self.missing.contains(&reason) {
                    self.missing.push(reason);
                }
                None
            }
        }
    }

    /// Builds packages of this workspace with these features and keeps `programs` of them under `name`.
    fn build(&self, name: &str, packages: &[&str], features: &[&str], programs: &[&str]) -> Result<PathBuf, String> {
        eprintln!("building {name}");
        let mut command = Command::new("cargo");
        command.current_dir(self.root.join("benches")).env("CARGO_TARGET_DIR", &self.bench_target);
        command.args(["build", "--release", "--quiet"]);
        for package in packages {
            command.args(["--package", package]);
        }
        for program in programs {
            command.args(["--bin", program]);
        }
        if let Some(jobs) = self.jobs {
            command.arg("-j").arg(jobs.to_string());
        }
        command.arg("--features").arg(features.join(","));
        run_checked(&mut command, &format!("the build of {name}"))?;
        let folder = self.store.join(name);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for program in programs {
            // Through a new name, since the old file may be running.
            let fresh = folder.join(format!("{program}.new"));
            std::fs::copy(self.bench_target.join("release").join(program), &fresh)
                .and_then(|_| std::fs::rename(&fresh, folder.join(program)))
                .map_err(|error| format!("{}: {error}", fresh.display()))?;
        }
        Ok(folder)
    }

    /// The programs that need no allocator: rows on the C face, the launcher, the load.
    ///
    /// # Errors
    /// A sentence, if they cannot be built: then nothing can be measured.
    pub fn tools(&self) -> Result<PathBuf, String> {
        self.build(
            "tools",
            &["terrace-bench", "http-bench"],
            &[],
            &["c_face", "launch", "http_load", "program", "http_serve"],
        )
    }

    /// The programs of the scenarios; `fresh` are wanted as well.
    ///
    /// # Errors
    /// A sentence, if they cannot be built.
    pub fn scenario_tools(&self, fresh: bool) -> Result<PathBuf, String> {
        if fresh {
            self.build("scenarios", &["terrace-bench", "http-bench"], &[], &["scenario", "launch", "http_serve"])
        } else {
            self.build("scenarios", &["terrace-bench"], &[], &["scenario"])
        }
    }

    /// The two programs of the rows, with Terrace alone.
    ///
    /// # Errors
    /// A sentence, if they cannot be built.
    pub fn instruction_tools(&self) -> Result<PathBuf, String> {
        self.build("instructions", &["terrace-bench"], &["terrace-bench/terrace"], &["c_face", "rust_face"])
    }

    /// The whole programs of the C face with every call timed.
    ///
    /// # Errors
    /// A sentence, if they cannot be built.
    pub fn timed_programs(&self) -> Result<PathBuf, String> {
        self.build("timed", &["terrace-bench", "http-bench"], &["terrace-bench/timed"], &PROGRAMS)
    }

    /// The whole programs with an allocator linked in.
    ///
    /// # Errors
    /// A sentence, if they cannot be built.
    pub fn programs(&self, allocator: &str) -> Result<PathBuf, String> {
        let features = format!("terrace-bench/global,terrace-bench/{}", feature_of(allocator));
        self.build(&format!("programs-{allocator}"), &["terrace-bench", "http-bench"], &[&features], &PROGRAMS)
    }

    /// The rows of the Rust face: a program for each allocator. mimalloc's two versions cannot share one, nor need a rival
    /// that does not build keep the others from running.
    pub fn rows(&mut self, wanted: &[String]) -> BTreeMap<String, PathBuf> {
        let (v2, others): (Vec<_>, Vec<_>) = wanted.iter().map(String::as_str).partition(|name| *name == "mimalloc-v2");
        let features: Vec<_> = others.iter().filter(|name| **name != "glibc").map(|name| feature_of(name)).collect();
        let together = self.build("rows", &["terrace-bench"], &features, &["rust_face"]);
        let mut found = BTreeMap::new();
        match together {
            Ok(folder) => found.extend(others.iter().map(|name| ((*name).to_owned(), folder.join("rust_face")))),
            Err(reason) => {
                eprintln!("{reason}; building them one by one");
                for name in others {
                    let features = if name == "glibc" { vec![] } else { vec![feature_of(name)] };
                    let build = |shop: &mut Self| {
                        shop.build(&format!("rows-{name}"), &["terrace-bench"], &features, &["rust_face"])
                    };
                    found.extend(self.attempt(build).map(|folder| (name.to_owned(), folder.join("rust_face"))));
                }
            }
        }
        for name in v2 {
            let build = |shop: &mut Self| shop.build("rows-v2", &["terrace-bench"], &["mimalloc-v2"], &["rust_face"]);
            found.extend(self.attempt(build).map(|folder| (name.to_owned(), folder.join("rust_face"))));
        }
        found
    }

    /// Shared objects to preload, by allocator; none stands for the C library's own.
    pub fn preloads(&mut self, wanted: &[String], terrace: Option<&Path>) -> BTreeMap<String, Option<PathBuf>> {
        let mut found = BTreeMap::new();
        for name in wanted {
            let object = match name.as_str() {
                "glibc" => {
                    let version = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
                    let version = version.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned());
                    self.versions.insert("glibc".into(), version.unwrap_or_default());
                    Some(None)
                }
                "terrace" => self.attempt(|shop| shop.terrace(terrace)).map(Some),
                "snmalloc" => self.attempt(Self::snmalloc).map(Some),
                "mimalloc-v3" | "mimalloc-v2" => self.attempt(|shop| shop.mimalloc(&name[9..])).map(Some),
                other => self.attempt(|shop| shop.debian(other)).map(Some),
            };
            found.extend(object.map(|object| (name.clone(), object)));
        }
        found
    }

    /// `libterrace.so`: the given one, or the one that the root workspace builds.
    fn terrace(&self, given: Option<&Path>) -> Result<PathBuf, String> {
        if let Some(library) = given {
            let library = std::path::absolute(library).map_err(|error| error.to_string())?;
            return if library.exists() { Ok(library) } else { Err(format!("{}: no such file", library.display())) };
        }
        eprintln!("building libterrace.so");
        let mut command = Command::new("cargo");
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command.args(["build", "--release", "--quiet", "--workspace"]);
        if let Some(jobs) = self.jobs {
            command.arg("-j").arg(jobs.to_string());
        }
        run_checked(&mut command, "libterrace.so")?;
        Ok(self.target.join("release").join("libterrace.so"))
    }

    /// mimalloc as a shared object, from the C sources in the crate that the Rust face uses, so that both are one version.
    fn mimalloc(&mut self, version: &str) -> Result<PathBuf, String> {
        let (folder, number) = self.sources("libmimalloc-sys", "mimalloc")?;
        let sources = folder.join("c_src").join("mimalloc").join(version);
        let include = sources.join("include");
        let own = read_define(&include.join("mimalloc.h"), "MI_MALLOC_VERSION");
        self.versions.insert(format!("mimalloc-{version}"), format!("{own} (libmimalloc-sys {number})"));
        let library = self.store.join(format!("libmimalloc-{version}.so"));
        let mut command = Command::new("cc");
        command.args(MIMALLOC_FLAGS.split_whitespace()).arg("-I").arg(&include).arg("-I").arg(sources.join("src"));
        command.arg(sources.join("src").join("static.c")).args(["-lpthread", "-o"]).arg(&library);
        run_checked(&mut command, &format!("mimalloc {version} as a shared object"))?;
        Ok(library)
    }

    /// snmalloc as a shared object, from the sources in its crate.
    fn snmalloc(&mut self) -> Result<PathBuf, String> {
        let (folder, number) = self.sources("snmalloc-sys", "snmalloc")?;
        self.versions.insert("snmalloc".into(), number.clone());
        let library = self.store.join(format!("libsnmalloc-{number}.so"));
        if !library.exists() {
            eprintln!("building snmalloc as a shared object");
            let sources = folder.join("upstream").join("src");
            let mut command = Command::new("c++");
            command.args(SNMALLOC_FLAGS.split_whitespace()).arg("-I").arg(&sources);
            command.arg(sources.join("snmalloc").join("override").join("malloc.cc"));
            let fresh = library.with_extension("new");
            command.args(["-lpthread", "-latomic", "-o"]).arg(&fresh);
            run_checked(&mut command, "snmalloc as a shared object")?;
            std::fs::rename(&fresh, &library).map_err(|error| error.to_string())?;
        }
        Ok(library)
    }

    /// The folder and version of a crate that a feature of this package brings.
    fn sources(&self, package: &str, feature: &str) -> Result<(PathBuf, String), String> {
        let mut command = Command::new("cargo");
        command.current_dir(self.root.join("benches"));
        command.args(["metadata", "--format-version", "1", "--features", feature]);
        let text = run_checked(&mut command, &format!("{package}'s sources"))?;
        let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let packages = metadata["packages"].as_array().ok_or("cargo's metadata has no packages")?;
        let found = packages.iter().find(|candidate| candidate["name"] == package);
        let found = found.ok_or(format!("{package} is not among the packages"))?;
        let manifest = Path::new(found["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().ok_or(format!("{package} has no folder"))?;
        Ok((folder.into(), found["version"].as_str().unwrap_or("unknown").into()))
    }

    /// A rival from Debian's packages.
    fn debian(&mut self, name: &str) -> Result<PathBuf, String> {
        let known = DEBIAN.iter().find(|(rival, ..)| *rival == name);
        let (_, package, object) = known.ok_or(format!("there is no allocator {name} on the C face"))?;
        if find_library(object).is_none() {
            self.install(&[package])?;
        }
        let library = find_library(object)
            .ok_or(format!("{name}: no {object} on this machine; install the package {package}"))?;
        let mut query = Command::new("dpkg-query");
        query.args(["--showformat=${Version}", "--show", package]);
        let version = run_checked(&mut query, "a package's version").unwrap_or_else(|_| "unknown".into());
        self.versions.insert(name.into(), version);
        Ok(library)
    }

    /// Installs Debian's packages, where that is allowed and possible. Services do not start by themselves.
    ///
    /// # Errors
    /// A sentence.
    pub fn install(&self, packages: &[&str]) -> Result<(), String> {
        let what = packages.join(" ");
        if !self.install {
            return Err(format!("{what}: not on this machine, and --no-install was given"));
        }
        eprintln!("installing {what}");
        for words in [&["update", "-qq"][..], &["install", "-y", "-qq", "--no-install-recommends"][..]] {
            let mut command = Command::new("apt-get");
            command.args(words).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
            if words[0] == "install" {
                command.args(packages);
            }
            run_checked(&mut command, &format!("the packages {what}"))?;
        }
        Ok(())
    }

    /// The path of a command, which is installed from a package if need be.
    ///
    /// # Errors
    /// A sentence.
    pub fn tool(&self, command: &str, package: &str) -> Result<PathBuf, String> {
        if let Some(path) = find_command(command) {
            return Ok(path);
        }
        self.install(&[package])?;
        find_command(command).ok_or(format!("{command}: the package {package} does not bring it"))
    }
}

/// The feature that brings an allocator.
pub fn feature_of(allocator: &str) -> &str {
    if allocator == "mimalloc-v3" { "mimalloc" } else { allocator }
}

/// Runs a command and returns its output.
///
/// # Errors
/// A sentence with its last words.
pub fn run_checked(command: &mut Command, what: &str) -> Result<String, String> {
    let done = command.stdin(Stdio::null()).output().map_err(|error| format!("{what}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    let mut lines = words.lines().filter(|line| !line.trim().is_empty());
    let reason = lines.clone().find(|line| line.starts_with("error")).or_else(|| lines.next_back());
    Err(format!("{what}: {}: {}", done.status, reason.unwrap_or("no message").trim()))
}

/// A command in the search path. `/usr/bin` comes first: what stands before it may be a script that chooses a version.
fn find_command(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A shared object in the usual folders.
fn find_library(object: &str) -> Option<PathBuf> {
    let multiarch = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let multiarch = multiarch.filter(|path| path.file_name().is_some_and(is_multiarch));
    let fixed = ["/usr/lib64", "/usr/lib", "/usr/local/lib"].map(PathBuf::from);
    multiarch.chain(fixed).map(|folder| folder.join(object)).find(|file| file.exists())
}

fn is_multiarch(name: &OsStr) -> bool {
    name.to_string_lossy().ends_with("-linux-gnu")
}

/// The value of a macro in a header.
fn read_define(header: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(header).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("#define")?.trim().strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).unwrap_or("unknown").into()
}
