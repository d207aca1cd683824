//! The C library's file calls, as this program defines them: they do their work and tell the [`Disk`] that watches the file.
//!
//! A program's own definition of `pwrite` comes before that of the C library, for every caller that is linked into the program:
//! the standard library under the journal, and LMDB's C. So what the store does to its files is seen where both pass, and no layer
//! in between has to be written or trusted. That nothing passed elsewhere is checked at the end of each watch, by comparing
//! the files with what was seen.
//!
//! Not seen: `fallocate` (it reserves space behind a file's end and changes nothing that can be read) and what LMDB maps into
//! memory to write to it, its lock file, which means nothing to the next start. `renameat2` is a system call without a function
//! of its own here: that two folders have exchanged their names is seen when their folder is synced, before which nothing happens.

#![expect(unsafe_code, reason = "these are C functions, called with C's pointers")]

use crate::disk::{Bytes, Disk, Event, Node, State};
use libc::{
    O_CREAT, O_DSYNC, O_SYNC, O_TRUNC, c_char, c_int, c_long, c_uint, c_void, iovec, mode_t, off_t, size_t,
    ssize_t,
};
use std::collections::HashMap;
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};

/// Descriptors beyond are not watched; a test has some dozens.
const DESCRIPTORS: usize = 4096;

/// An open file that is watched.
#[derive(Clone)]
struct Open {
    disk: Arc<Disk>,
    node: Node,
    is_folder: bool,
    /// What is written is durable at once.
    durable: bool,
}

static DISKS: RwLock<Vec<Arc<Disk>>> = RwLock::new(Vec::new());
static FILES: LazyLock<Mutex<HashMap<c_int, Open>>> = LazyLock::new(Mutex::default);
/// Whether a descriptor is in `FILES`: every write of the process asks.
static WATCHED: [AtomicBool; DESCRIPTORS] = [const { AtomicBool::new(false) }; DESCRIPTORS];

/// Files opened below the disk's root are watched from now on.
pub fn watch(disk: &Arc<Disk>) {
    DISKS.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(disk));
}

/// Files opened below the disk's root are not watched any more.
pub fn unwatch(disk: &Arc<Disk>) {
    DISKS.write().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, disk));
    let open = files().values().filter(|open| Arc::ptr_eq(&open.disk, disk)).count();
    assert_eq!(open, 0, "a file is still open: the store is not closed");
}

fn files() -> MutexGuard<'static, HashMap<c_int, Open>> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watched(descriptor: c_int) -> Option<Open> {
    let flag = WATCHED.get(usize::try_from(descriptor).ok()?)?;
    if !flag.load(Ordering::Acquire) {
        return None;
    }
    files().get(&descriptor).cloned()
}

/// The disk that watches `path`, and the path below its root.
fn disk_of(path: *const c_char) -> Option<(Arc<Disk>, PathBuf)> {
    // SAFETY: a C string, as the C function that was called demands.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    let disks = DISKS.read().unwrap_or_else(PoisonError::into_inner);
    disks.iter().find_map(|disk| Some((Arc::clone(disk), path.strip_prefix(disk.root()).ok()?.to_path_buf())))
}

/// The bytes at `pointer`.
fn bytes(pointer: *const c_void, len: usize) -> Vec<u8> {
    // SAFETY: the caller of `write` gave them to be read, and the kernel has just read them.
    unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), len) }.to_vec()
}

// ---------------------------------------------------------------------------------------------------------------- open, close

fn open_watched(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let Some((disk, below)) = disk_of(path) else { return real_open(path, flags, mode) };
    let mut state = disk.lock();
    let descriptor = real_open(path, flags, mode);
    if descriptor < 0 {
        return descriptor;
    }
    let node = if let Some(node) = state.find(&below) {
        if flags & O_TRUNC != 0 {
            disk.tell(&mut state, Event::SetLen { file: node, len: 0 });
        }
        node
    } else {
        assert!(flags & O_CREAT != 0, "{} came from elsewhere", below.display());
        let (folder, name) = state.folder_of(&below).expect("it is in a folder");
        let node = state.make(&name, false);
        state.names_in(folder).insert(name.clone(), node);
        disk.tell(&mut state, Event::Link { folder, name, node });
        node
    };
    let is_folder = state.names[node].1;
    drop(state);
    let index = usize::try_from(descriptor).expect("not negative");
    assert!(index < DESCRIPTORS, "more open files than a test can have");
    let durable = flags & (O_DSYNC | O_SYNC) != 0;
    files().insert(descriptor, Open { disk, node, is_folder, durable });
    WATCHED[index].store(true, Ordering::Release);
    descriptor
}

fn real_open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the arguments are the caller's.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int }
}

/// `open` of the C library. (C declares the mode as optional; it is passed in a register either way.)
#[unsafe(no_mangle)]
pub extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    open_watched(path, flags, mode)
}

/// `open64` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    open_watched(path, flags, mode)
}

/// `close` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn close(descriptor: c_int) -> c_int {
    if watched(descriptor).is_some() {
        WATCHED[descriptor as usize].store(false, Ordering::Release);
        files().remove(&descriptor);
    }
    // SAFETY: the arguments are the caller's.
    unsafe { libc::syscall(libc::SYS_close, descriptor) as c_int }
}

// --------------------------------------------------------------------------------------------------------------------- writes

/// Does a write for real; tells the disk what was written where.
fn writes(
    descriptor: c_int,
    offset: Option<off_t>,
    real: impl FnOnce() -> c_long,
    wrote: impl FnOnce(usize) -> Vec<u8>,
) -> ssize_t {
    let Some(open) = watched(descriptor) else { return real() as ssize_t };
    let mut state = open.disk.lock();
    // SAFETY: asks for a position and changes nothing.
    let at = offset.unwrap_or_else(|| unsafe { libc::lseek(descriptor, 0, libc::SEEK_CUR) });
    let done = real() as ssize_t;
    if let Ok(len) = usize::try_from(done)
        && len > 0
    {
        let offset = u64::try_from(at).expect("a position in a file");
        let event = Event::Write { file: open.node, offset, bytes: Bytes(wrote(len)), durable: open.durable };
        open.disk.tell(&mut state, event);
    }
    done
}

/// `write` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn write(descriptor: c_int, from: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: the arguments are the caller's.
    let real = || unsafe { libc::syscall(libc::SYS_write, descriptor, from, count) };
    writes(descriptor, None, real, |len| bytes(from, len))
}

/// `pwrite` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn pwrite(descriptor: c_int, from: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the arguments are the caller's.
    let real = || unsafe { libc::syscall(libc::SYS_pwrite64, descriptor, from, count, offset) };
    writes(descriptor, Some(offset), real, |len| bytes(from, len))
}

/// `pwrite64` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn pwrite64(descriptor: c_int, from: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    pwrite(descriptor, from, count, offset)
}

/// `writev` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn writev(descriptor: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the arguments are the caller's.
    let real = || unsafe { libc::syscall(libc::SYS_writev, descriptor, parts, count) };
    writes(descriptor, None, real, |len| {
        // SAFETY: `count` parts, as the caller of `writev` says.
        let parts = unsafe { std::slice::from_raw_parts(parts, count as usize) };
        let mut all: Vec<u8> = parts.iter().flat_map(|part| bytes(part.iov_base, part.iov_len)).collect();
        all.truncate(len);
        all
    })
}

/// `ftruncate` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate(descriptor: c_int, len: off_t) -> c_int {
    // SAFETY: the arguments are the caller's.
    let real = || unsafe { libc::syscall(libc::SYS_ftruncate, descriptor, len) as c_int };
    let Some(open) = watched(descriptor) else { return real() };
    let mut state = open.disk.lock();
    let done = real();
    if done == 0 {
        let len = u64::try_from(len).expect("the kernel took it");
        open.disk.tell(&mut state, Event::SetLen { file: open.node, len });
    }
    done
}

/// `ftruncate64` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate64(descriptor: c_int, len: off_t) -> c_int {
    ftruncate(descriptor, len)
}

// ---------------------------------------------------------------------------------------------------------------------- syncs

fn sync(descriptor: c_int, call: c_long) -> c_int {
    // SAFETY: the argument is the caller's.
    let real = || unsafe { libc::syscall(call, descriptor) as c_int };
    let Some(open) = watched(descriptor) else { return real() };
    let mut state = open.disk.lock();
    let done = real();
    if done == 0 {
        let (node, folder) = (open.node, open.node);
        let event = if open.is_folder {
            see_exchanges(&open.disk, &mut state, folder, descriptor);
            Event::SyncFolder { folder }
        } else {
            Event::Sync { file: node }
        };
        open.disk.tell(&mut state, event);
    }
    done
}

/// Tells which folders in `folder` have exchanged their names.
fn see_exchanges(disk: &Disk, state: &mut State, folder: Node, descriptor: c_int) {
    let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).expect("it is open");
    for (name, node) in state.names_in(folder).clone() {
        let Ok(data) = std::fs::metadata(path.join(&name)).map(|data| data.ino()) else { continue };
        let is_there = |(_, other): &(&OsString, &Node)| state.inodes.get(&data) == Some(*other);
        let found = state.folders[&folder].iter().find(is_there).map(|(name, node)| (name.clone(), *node));
        // Which of the two is found first does not matter; afterwards both are where they should be.
        if let Some((other, there)) = found.filter(|(_, there)| *there != node && state.names[node].1) {
            state.names_in(folder).insert(name.clone(), there);
            state.names_in(folder).insert(other.clone(), node);
            state.names[there].0.clone_from(&name);
            state.names[node].0.clone_from(&other);
            disk.tell(state, Event::Exchange { folder, names: (name, other) });
            return;
        }
    }
}

/// `fdatasync` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    sync(descriptor, libc::SYS_fdatasync)
}

/// `fsync` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(descriptor: c_int) -> c_int {
    sync(descriptor, libc::SYS_fsync)
}

// ---------------------------------------------------------------------------------------------------------------------- names

/// `mkdir` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the arguments are the caller's.
    let real = || unsafe { libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path, mode) as c_int };
    let Some((disk, below)) = disk_of(path) else { return real() };
    let mut state = disk.lock();
    let done = real();
    if done == 0 {
        let (folder, name) = state.folder_of(&below).expect("it is in a folder");
        let node = state.make(&name, true);
        state.names_in(folder).insert(name.clone(), node);
        let inode = std::fs::metadata(disk.root().join(below)).expect("it was made").ino();
        state.inodes.insert(inode, node);
        disk.tell(&mut state, Event::Link { folder, name, node });
    }
    done
}

fn remove(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the arguments are the caller's.
    let real = || unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, flags) as c_int };
    let Some((disk, below)) = disk_of(path) else { return real() };
    let mut state = disk.lock();
    let done = real();
    if done == 0 {
        let (folder, name) = state.folder_of(&below).expect("it was in a folder");
        state.names_in(folder).remove(&name);
        disk.tell(&mut state, Event::Unlink { folder, name });
    }
    done
}

/// `unlink` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn unlink(path: *const c_char) -> c_int {
    remove(path, 0)
}

/// `unlinkat` of the C library, which the standard library empties folders with.
#[unsafe(no_mangle)]
pub extern "C" fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the arguments are the caller's.
    let real = || unsafe { libc::syscall(libc::SYS_unlinkat, folder, path, flags) as c_int };
    if folder == libc::AT_FDCWD {
        return remove(path, flags);
    }
    // SAFETY: a C string, as the C function that was called demands.
    let name = OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes());
    let Ok(whole) = std::fs::read_link(format!("/proc/self/fd/{folder}")).map(|folder| folder.join(name))
    else {
        return real();
    };
    let whole =
        std::ffi::CString::new(whole.into_os_string().into_encoded_bytes()).expect("paths have no zeros");
    remove(whole.as_ptr(), flags)
}

/// `rmdir` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn rmdir(path: *const c_char) -> c_int {
    remove(path, libc::AT_REMOVEDIR)
}

/// `rename` of the C library.
#[unsafe(no_mangle)]
pub extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the arguments are the caller's.
    let real = || unsafe {
        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) as c_int
    };
    let (Some((disk, below)), Some((_, below_to))) = (disk_of(from), disk_of(to)) else { return real() };
    let mut state = disk.lock();
    let done = real();
    if done == 0 {
        let (folder, from) = state.folder_of(&below).expect("it was in a folder");
        let (to_folder, to) = state.folder_of(&below_to).expect("it is in a folder");
        let node = state.names_in(folder).remove(&from).expect("it had a name");
        state.names_in(to_folder).insert(to.clone(), node);
        state.names[node].0.clone_from(&to);
        if folder == to_folder {
            disk.tell(&mut state, Event::Rename { folder, from, to });
        } else {
            // Folders know nothing of each other: after a power loss it may stand in both, or in neither.
            disk.tell(&mut state, Event::Link { folder: to_folder, name: to, node });
            disk.tell(&mut state, Event::Unlink { folder, name: from });
        }
    }
    done
}
