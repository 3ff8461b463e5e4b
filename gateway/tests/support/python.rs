//! A Python of a test's own: a virtual environment with what a file of requirements names, from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An interpreter that has what `requirements` names. Installed once for a build folder, and anew when the file changes.
pub fn with(name: &str, requirements: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    fs::create_dir_all(&folder).unwrap();
    // Tests run at once, as threads or as processes; the lock ends with the file, at the end of this function.
    let lock = fs::File::create(folder.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let environment = folder.join(name);
    let wanted = fs::read_to_string(requirements).unwrap();
    let stamp = environment.join("installed-by");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return environment.join("bin/python");
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&environment));
    let install = "-m pip install --quiet --disable-pip-version-check --retries 3 -r";
    run(Command::new(environment.join("bin/python"))
        .args(install.split(' '))
        .arg(requirements));
    fs::write(stamp, wanted).unwrap();
    environment.join("bin/python")
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{errors}");
}
