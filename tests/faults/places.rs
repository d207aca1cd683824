//! File systems of the size and the kind a test wants, mounted for it and gone with it.

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A mounted file system.
pub struct Place {
    mounted: Vec<PathBuf>,
    folder: TempDir,
}

impl Place {
    /// In memory, of `size` (`16m`), with at most `files` files and folders.
    pub fn tmpfs(size: &str, files: u32) -> Place {
        let mut place = Place::new();
        place.mount_tmpfs("data", &format!("size={size},nr_inodes={files}"));
        place
    }

    /// ext4 of `size` (`64M`) in a file on the disk.
    pub fn ext4(size: &str) -> Place {
        let mut place = Place::new();
        place.mount_image(size, &[]);
        place
    }

    /// ext4 that promises `size` bytes though the disk below has room for `real` only: writes are taken, and syncs fail.
    pub fn ext4_on_less(size: &str, real: &str) -> Place {
        let mut place = Place::new();
        place.mount_tmpfs("below", &format!("size={real}"));
        place.mount_image(size, &["-E", "lazy_itable_init=1"]);
        place
    }

    fn new() -> Place {
        Place { mounted: Vec::new(), folder: TempDir::new().expect("the system has room for a folder") }
    }

    /// Where the data goes.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn mount_tmpfs(&mut self, name: &str, options: &str) {
        let at = self.folder.path().join(name);
        std::fs::create_dir(&at).expect("the folder is ours");
        root_runs("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &text(&at)]);
        self.mounted.push(at);
    }

    fn mount_image(&mut self, size: &str, options: &[&str]) {
        let below = self.folder.path().join("below");
        std::fs::create_dir_all(&below).expect("the folder is ours");
        let (image, at) = (below.join("image"), self.data());
        std::fs::create_dir(&at).expect("the folder is ours");
        root_runs("truncate", &["-s", size, &text(&image)]);
        root_runs("mkfs.ext4", &[&["-q", "-F", "-m", "0"], options, &[&text(&image)]].concat());
        root_runs("mount", &["-o", "loop", &text(&image), &text(&at)]);
        self.mounted.push(at);
    }

    /// Gives a file system in memory another size.
    pub fn resize(&self, size: &str) {
        root_runs("mount", &["-o", &format!("remount,size={size}"), &text(&self.data())]);
    }

    /// Gives a file system in memory another number of files.
    pub fn allow_files(&self, count: u32) {
        root_runs("mount", &["-o", &format!("remount,nr_inodes={count}"), &text(&self.data())]);
    }

    /// Makes ext4 read-only as the kernel does after an error of the disk.
    pub fn abort(&self) {
        root_runs("mount", &["-o", "remount,abort", &text(&self.data())]);
    }

    /// Gives the disk below an ext4 file system in memory another size.
    pub fn grow_below(&self, size: &str) {
        root_runs(
            "mount",
            &["-o", &format!("remount,size={size}"), &text(&self.folder.path().join("below"))],
        );
    }

    /// Repairs ext4 and mounts it again, writable, once nobody uses it.
    pub fn mount_again(&self) {
        let (image, at) = (self.folder.path().join("below/image"), self.data());
        root_runs("umount", &[&text(&at)]);
        // It answers 1 when it has repaired something.
        let repaired = Command::new("e2fsck")
            .args(["-f", "-y"])
            .arg(&image)
            .output()
            .expect("e2fsck comes with mkfs.ext4");
        assert!(
            repaired.status.code().is_some_and(|code| code <= 1),
            "{}",
            String::from_utf8_lossy(&repaired.stdout)
        );
        root_runs("mount", &["-o", "loop", &text(&image), &text(&at)]);
    }

    /// Fills it up to the last byte with a file of others.
    pub fn fill(&self) {
        let path = self.data().join("of-others");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("it opens");
        let mut end = file.metadata().expect("it is open").len();
        for step in [1 << 20, 1 << 16, 1 << 12, 1 << 10] {
            while rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), end, step).is_ok() {
                end += step;
            }
        }
    }

    /// Removes that file.
    pub fn clear(&self) {
        std::fs::remove_file(self.data().join("of-others")).expect("it is there");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for at in self.mounted.iter().rev() {
            // Lazily: a server that a failed test has left may still use it.
            let done = Command::new("umount").arg("-l").arg(at).status();
            if !done.is_ok_and(|status| status.success()) {
                eprintln!("{} stays mounted", at.display());
            }
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs a command that takes root; the test fails if it does.
pub fn root_runs(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output();
    let done =
        done.unwrap_or_else(|error| panic!("{program}: {error}; the fault tests need mount and mkfs.ext4"));
    assert!(
        done.status.success(),
        "{program} {arguments:?}: {}; the fault tests mount file systems and so need root (CI has it)",
        String::from_utf8_lossy(&done.stderr)
    );
}
