//! The installed library: the header, pkg-config, and programs in C and C++ that are linked with it in each way there is; the
//! options that a program brings along, and those that a set-user-ID program does not look at.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{TIME_LIMIT, assert_fine, folder, run_within};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};

/// How a program gets at the library.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Linked {
    /// With `libterrace.so`.
    Shared,
    /// With `libterrace.a`, and all else as shared libraries.
    Archive,
    /// With nothing but archives.
    Static,
}

const WAYS: [Linked; 3] = [Linked::Shared, Linked::Archive, Linked::Static];

/// Builds everything and installs it below a fresh folder; gives the prefix.
fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let target = folder().parent().expect("the folder lies in the target folder");
        for package in ["terrace-capi", "terrace-static", "terrace-cli"] {
            common::build(target, &["--package", package]);
        }
        let prefix = folder().join(format!("prefix-{}", std::process::id()));
        let installed = install(&target.join("release/terrace"), &["--prefix", prefix.to_str().unwrap()]);
        assert_fine(&installed);
        assert_eq!(String::from_utf8(installed.stdout).unwrap().lines().count(), 5);
        prefix
    })
}

fn install(command: &Path, arguments: &[&str]) -> Output {
    Command::new(command).arg("install").args(arguments).output().expect("the command can be started")
}

/// What pkg-config says for the installed library.
fn package(prefix: &Path, arguments: &[&str]) -> Vec<String> {
    let output = Command::new("pkg-config")
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .args(arguments)
        .arg("terrace")
        .output()
        .expect("pkg-config can be started");
    assert_fine(&output);
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

fn compiler(source: &str) -> Command {
    let mut command = if source.ends_with(".cpp") {
        let mut command = Command::new("g++");
        command.arg("-std=gnu++17");
        command
    } else {
        Command::new("gcc")
    };
    command.args([
        "-O1",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused-function",
        "-Wno-alloc-size-larger-than",
        "-pthread",
        "-fno-builtin",
    ]);
    command
}

/// Compiles a source of `tests/c` by what pkg-config says.
fn compile(source: &str, linked: Linked) -> PathBuf {
    let prefix = prefix();
    let program = prefix.join(format!("{}-{linked:?}", source.replace('.', "-")));
    static COMPILING: Mutex<()> = Mutex::new(());
    let _compiling = COMPILING.lock();
    if program.exists() {
        return program;
    }
    let mut command = compiler(source);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(source)).arg("-o").arg(&program);
    command.args(package(prefix, &["--cflags"]));
    let mut libraries = package(prefix, if linked == Linked::Shared { &["--libs"] } else { &["--libs", "--static"] });
    match linked {
        Linked::Shared => libraries.push(format!("-Wl,-rpath,{}", prefix.join("lib").display())),
        Linked::Archive => {
            libraries.iter_mut().filter(|word| *word == "-lterrace").for_each(|word| *word = "-l:libterrace.a".into())
        }
        Linked::Static => libraries.push("-static".into()),
    }
    let compiled = command.args(libraries).output().expect("the compiler can be started");
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{source}, {linked:?}:\n{said}");
    assert!(!said.contains("statically linked"), "the library brings a warning along: {said}");
    program
}

fn run(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program);
    // Cargo names folders here, in which there may be another build of the library.
    command.env_remove("LD_LIBRARY_PATH").args(arguments).envs(environment.iter().copied());
    run_within(&mut command, TIME_LIMIT)
}

/// A report at exit says that the program's heap was this library's, and that it was used.
#[track_caller]
fn assert_on_terrace(program: &Path, arguments: &[&str]) {
    let output = run(program, arguments, &[("TERRACE_STATS", "1")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("terrace: process "), "{said}");
    let refills = said.lines().find_map(|line| line.strip_prefix("slow paths ")).expect("the report counts refills");
    assert!(refills.split(' ').next().unwrap().parse::<usize>().unwrap() > 10, "{said}");
}

#[test]
fn a_program_in_c_links_in_every_way() {
    for linked in WAYS {
        let program = compile("linked.c", linked);
        assert_fine(&run(&program, &["1"], &[]));
        assert_on_terrace(&program, &["1"]);
    }
}

#[test]
fn a_program_in_cpp_links_in_every_way() {
    for linked in WAYS {
        let program = compile("linked.cpp", linked);
        assert_fine(&run(&program, &[], &[]));
        assert_on_terrace(&program, &[]);
    }
}

/// There is no loader in a wholly static program that could find an unwinder, and no second C library may be loaded for it.
#[test]
fn an_unwinder_is_asked_for_in_every_way_and_not_to_be_had_in_a_static_program() {
    for linked in WAYS {
        let program = compile("linked.c", linked);
        let output = run(&program, &["1"], &[("TERRACE_STACKS", "unwind"), ("TERRACE_CHECK", "stacks")]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{linked:?}: {output:?}");
        assert_eq!(said.matches("there is no unwinder here").count(), usize::from(matches!(linked, Linked::Static)));
    }
}

#[test]
fn a_program_s_own_options_count_and_the_environment_goes_before() {
    for linked in WAYS {
        let program = compile("linked.c", linked);
        assert_fine(&run(&program, &["1"], &[]));
        assert_fine(&run(&program, &["0"], &[("TERRACE_MMAP_THRESHOLD", "1048576")]));
    }
}

#[test]
fn a_program_with_more_rights_than_its_caller_does_not_look_at_the_environment() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("only root can start a program for another user: not tested");
        return;
    }
    let folder = std::env::temp_dir().join(format!("terrace-secure-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.join("program");
    fs::copy(compile("linked.c", Linked::Archive), &program).unwrap();
    let environment = [("TERRACE_MMAP_THRESHOLD", "1048576"), ("TERRACE_ARENAS", "many"), ("TERRACE_STATS", "1")];
    let mut said = Vec::new();
    for mode in [0o755, 0o4755] {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        let mut command = Command::new(&program);
        command.arg("secure").envs(environment).current_dir("/").uid(65534).gid(65534);
        let output = run_within(&mut command, TIME_LIMIT);
        assert!(output.status.success(), "{output:?}");
        said.push((String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap()));
    }
    fs::remove_dir_all(&folder).unwrap();
    // Without the bit the caller's options count; with it only the program's own do.
    assert_eq!(said[0].0, "0 0\n");
    assert!(said[0].1.contains("TERRACE_ARENAS must be") && said[0].1.contains("terrace: process "), "{}", said[0].1);
    assert_eq!(said[1], ("1 1\n".to_owned(), String::new()), "is the folder for temporary files mounted nosuid?");
}

#[test]
fn the_header_is_valid_in_c_and_cpp_by_itself_and_after_the_system_s() {
    let header = prefix().join("include/terrace.h");
    for language in [["-xc", "-std=c99"], ["-xc", "-std=gnu2x"], ["-xc++", "-std=c++11"], ["-xc++", "-std=c++20"]] {
        for before in [&[][..], &["-include", "stdlib.h", "-include", "malloc.h"]] {
            let checked = Command::new("gcc")
                .args(language)
                .args(["-fsyntax-only", "-pedantic", "-Wall", "-Wextra", "-Wstrict-prototypes", "-Werror"])
                .args(before)
                .arg("-include")
                .arg(&header)
                .arg("/dev/null")
                .output()
                .expect("the compiler can be started");
            let said = String::from_utf8_lossy(&checked.stderr).replace("cc1plus: warning: command-line option", "");
            assert!(checked.status.success(), "{language:?} {before:?}: {said}");
        }
    }
}

#[test]
fn a_prefix_may_have_a_space_in_it() {
    let spaced = folder().join(format!("a prefix {}", std::process::id()));
    let target = folder().parent().unwrap().join("release/terrace");
    let (ordinary, program) = (prefix(), spaced.join("a program"));
    assert_fine(&install(&target, &["--prefix", spaced.to_str().unwrap()]));
    // As a makefile does: the shell takes the words apart.
    let words = "-O1 -pthread -fno-builtin tests/c/linked.c $(pkg-config --cflags --libs terrace)";
    let built = Command::new("sh")
        .args(["-c", &format!(r#"eval "gcc {words}" '-o "$PROGRAM"'"#)])
        .env("PKG_CONFIG_PATH", spaced.join("lib/pkgconfig"))
        .env("PROGRAM", &program)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("a shell can be started");
    assert_fine(&built);
    let mut command = Command::new(&program);
    command.arg("1").env("LD_LIBRARY_PATH", spaced.join("lib"));
    assert_fine(&run_within(&mut command, TIME_LIMIT));
    // Where there is none, nothing is in quotes.
    assert_eq!(package(ordinary, &["--libs"]), [format!("-L{}", ordinary.join("lib").display()), "-lterrace".into()]);
    fs::remove_dir_all(&spaced).unwrap();
}

#[test]
fn a_package_s_files_do_not_mention_the_folder_they_are_put_together_in() {
    let destdir = folder().join(format!("destdir-{}", std::process::id()));
    let command = prefix().join("bin/terrace");
    // The installed command finds nothing to install beside it: it says so, and leaves no half of it.
    let refused = install(&command, &["--prefix", "/usr", "--destdir", destdir.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(125));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("libterrace.so could not be installed") && said.lines().count() == 1, "{said}");
    fs::remove_dir_all(&destdir).unwrap();

    let target = folder().parent().unwrap().join("release/terrace");
    assert_fine(&install(&target, &["--prefix", "/usr", "--destdir", destdir.to_str().unwrap()]));
    let package_file = fs::read_to_string(destdir.join("usr/lib/pkgconfig/terrace.pc")).unwrap();
    assert!(package_file.starts_with("prefix=/usr\n"), "{package_file}");
    for (name, mode) in [("bin/terrace", 0o755), ("lib/libterrace.so", 0o755), ("lib/libterrace.a", 0o644)] {
        use std::os::unix::fs::PermissionsExt;
        let found = fs::metadata(destdir.join("usr").join(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
    assert_eq!(package(&destdir.join("usr"), &["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    fs::remove_dir_all(&destdir).unwrap();
}

/// Of a file the kernel maps 64 KiB at a time, by whole 64 KiB of addresses. What a process runs that starts, allocates and ends lies in one such
/// piece of the library's code, and what lies beside the linkage table behind all code is nothing (decision 21).
#[test]
fn what_common_programs_run_is_one_piece_of_the_code() {
    const PIECE: u64 = 64 << 10;
    let library = prefix().join("lib/libterrace.so");
    let lines = |what: &str| {
        let read = Command::new("readelf").arg(what).arg(&library).output().expect("readelf can be started");
        assert_fine(&read);
        let lines = String::from_utf8(read.stdout).unwrap();
        lines.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
    };
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
    let segments = lines("-lW");
    let code =
        segments.iter().find(|line| line.first().is_some_and(|kind| kind == "LOAD") && line.contains(&"E".into()));
    let begin = number(&code.expect("the library has code")[2]) / 4096 * 4096;
    let symbols = lines("-sW");
    // Of names that the compiler has made, the part that says the function. `free` comes last of all in the piece.
    let functions = [
        "malloc",
        "calloc",
        "realloc",
        "5names5start17",
        "5names4stop17",
        "allocate_medium_otherwise17",
        "allocate_zeroed_pages17",
        "free_run_otherwise17",
        "6refill17",
        "10keep_house17",
        "15settle_arrivals17",
        "11GeneralHeap5purge17",
        "free",
    ];
    for name in functions {
        let is_it = |symbol: &str| if name.ends_with("17") { symbol.contains(name) } else { symbol == name };
        let found: Vec<_> = symbols.iter().filter(|line| line.last().is_some_and(|it| is_it(it))).collect();
        assert!(!found.is_empty(), "{name} is not there");
        for address in found.iter().map(|line| number(&line[1])) {
            let mapped = begin..(address + 256).next_multiple_of(PIECE);
            assert!(
                mapped.contains(&address) && mapped.end - mapped.start <= PIECE + PIECE / 4,
                "{name} at {address:#x}: {mapped:#x?}"
            );
        }
    }
    let sections = lines("-SW");
    let section = |name: &str| {
        sections.iter().find_map(|line| {
            let place = line.iter().position(|word| word == name)?;
            Some(number(&line[place + 2]))
        })
    };
    let (text, table) = (section(".text").unwrap(), section(".plt").unwrap());
    if table > text {
        let end = section(".terrace.end").expect("the linkage table lies behind all code");
        assert!(end % PIECE == 0 && (end..end + 4096).contains(&table), "{end:#x} {table:#x}");
    }
}
