//! What tests install from a registry, once for a build folder. A registry that can't be reached fails the test: what
//! wasn't tried wasn't shown to work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder that `name` is installed in. Installs it anew unless it was installed by this very `wanted`.
pub fn installed(name: &str, wanted: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    fs::create_dir_all(&all).unwrap();
    // Tests run at once, as threads or as processes; the lock ends with the file, at the end of this function.
    let lock = fs::File::create(all.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let folder = all.join(name);
    let stamp = folder.join("installed-by");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return folder;
    }
    fs::create_dir_all(&folder).unwrap();
    install(&folder);
    fs::write(stamp, wanted).unwrap();
    folder
}

/// A Python with these requirements, which is in `bin/python` of the folder.
pub fn python(name: &str, requirements: &str) -> PathBuf {
    installed(name, requirements, |folder| {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(folder));
        let file = folder.join("requirements.txt");
        fs::write(&file, requirements).unwrap();
        let install = "-m pip install --quiet --disable-pip-version-check --retries 3 -r";
        run(Command::new(folder.join("bin/python"))
            .args(install.split(' '))
            .arg(file));
    })
}

/// Runs an installer.
pub fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "it can't be installed, so it can't be tried: {command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
