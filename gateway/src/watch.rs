//! Notices that the configuration, or a file that it names, says something else than when it was loaded.
//!
//! It looks at the files' names again and again instead of asking the kernel for news: Kubernetes changes a mounted
//! ConfigMap by turning a link two folders up, and network volumes and bind mounts give no news at all. A look is a
//! `stat` a file. A change counts when two looks in a row see the same: a file that is being written isn't read. What
//! decides is the bytes: a file that was only touched isn't a change. Never loads anything.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::config::inputs::{self, Input};
use crate::config::secret::Environment;

/// Between two looks. A change is taken within three of them.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What the last look saw.
#[derive(Debug, Default)]
pub struct Watch {
    seen: Vec<Option<Stamp>>,
    is_unsettled: bool,
}

/// Enough of a file, behind all links, to see that it is another or was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watch {
    /// Looks once; whether the files that were loaded say something else, and have for one look.
    pub fn look(&mut self, loaded: &[Input], environment: &dyn Environment) -> bool {
        let seen: Vec<_> = loaded.iter().map(|input| stamp(&input.path)).collect();
        if seen != self.seen {
            self.seen = seen;
            self.is_unsettled = true;
            return false;
        }
        let is_settled = std::mem::take(&mut self.is_unsettled);
        is_settled && {
            let now = loaded
                .iter()
                .map(|input| Input::of(&input.path, environment));
            !inputs::changed(loaded, &now.collect::<Vec<_>>()).is_empty()
        }
    }
}

fn stamp(path: &str) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some(Stamp {
        device: found.dev(),
        inode: found.ino(),
        length_bytes: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::secret::System;

    /// Looks until nothing is unsettled; whether there was a change.
    fn settled(watch: &mut Watch, loaded: &[Input]) -> bool {
        let system = System::at(0);
        let looks = [(); 3].map(|()| watch.look(loaded, &system));
        looks.contains(&true)
    }

    #[test]
    fn a_file_that_says_something_else_is_a_change_and_a_touched_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        let path = file.to_str().unwrap();
        fs::write(&file, "one").unwrap();
        let loaded = [Input::of(path, &System::at(0))];
        let mut watch = Watch::default();
        assert!(!settled(&mut watch, &loaded));
        fs::write(&file, "one").unwrap();
        assert!(!settled(&mut watch, &loaded));
        fs::write(&file, "two").unwrap();
        assert!(
            !watch.look(&loaded, &System::at(0)),
            "it may be half-written"
        );
        assert!(watch.look(&loaded, &System::at(0)));
        assert!(!settled(&mut watch, &loaded), "told once");
        fs::remove_file(&file).unwrap();
        assert!(settled(&mut watch, &loaded));
    }

    #[test]
    fn a_change_between_the_load_and_the_first_look_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "one").unwrap();
        let loaded = [Input::of(file.to_str().unwrap(), &System::at(0))];
        fs::write(&file, "two").unwrap();
        assert!(settled(&mut Watch::default(), &loaded));
    }

    #[test]
    fn the_turned_link_of_a_config_map_is_a_change() {
        let mount = tempfile::tempdir().unwrap();
        let at = |name: &str| mount.path().join(name);
        for (version, text) in [("..v1", "one"), ("..v2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("tollgate.toml"), text).unwrap();
        }
        symlink("..v1", at("..data")).unwrap();
        symlink("..data/tollgate.toml", at("tollgate.toml")).unwrap();
        let path = at("tollgate.toml");
        let loaded = [Input::of(path.to_str().unwrap(), &System::at(0))];
        let mut watch = Watch::default();
        assert!(!settled(&mut watch, &loaded));
        symlink("..v2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at("..v1")).unwrap();
        assert!(settled(&mut watch, &loaded));
    }
}
