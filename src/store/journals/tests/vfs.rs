//! A layer below SQLite that tells what is written to files.
//!
//! It wraps SQLite's own layer and passes everything on. It is made the default of this process, so
//! that the code under test need not know; outside recorded directories it does nothing more.

use std::cell::Cell;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::Once;

use rusqlite::ffi::{
    SQLITE_IOERR_WRITE, SQLITE_OK, SQLITE_OPEN_CREATE, SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_WAL,
    sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find,
    sqlite3_vfs_register,
};

use super::recorded::{Change, tell};

thread_local! {
    /// Whether what this thread writes is refused, as its user's quota is reached.
    pub(super) static QUOTA: Cell<bool> = const { Cell::new(false) };
}

/// An open file. SQLite allocates it, with room for the wrapped layer's own file behind it.
#[repr(C)]
struct Watched {
    /// What SQLite knows of it: it must come first.
    base: sqlite3_file,
    /// Its name, leaked by `open` and taken back by `close`; null for a temporary file.
    path: *mut PathBuf,
    /// Whether the wrapped layer syncs the directory too when the file is synced first.
    syncs_directory: bool,
}

impl Watched {
    fn path(&self) -> Option<&PathBuf> {
        // SAFETY: `open` made it from a box, and only `close` takes it back.
        unsafe { self.path.as_ref() }
    }
}

/// Returns the wrapped layer's file.
///
/// # Safety
/// `file` was opened by this layer.
unsafe fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `szOsFile` has SQLite allocate both, one behind the other.
    unsafe { file.cast::<Watched>().add(1).cast() }
}

/// Passes a call on to the wrapped layer's file.
macro_rules! pass {
    ($name:ident, $method:ident, ($($arg:ident: $type:ty),*) -> $out:ty) => {
        unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $arg: $type)*) -> $out {
            // SAFETY: the file is open, and the wrapped layer has all methods of version 3.
            unsafe {
                let real = real(file);
                ((*(*real).pMethods).$method.expect("a method of version 3"))(real $(, $arg)*)
            }
        }
    };
}

pass!(read, xRead, (to: *mut c_void, length: c_int, at: sqlite3_int64) -> c_int);
pass!(real_write, xWrite, (from: *const c_void, length: c_int, at: sqlite3_int64) -> c_int);
pass!(real_truncate, xTruncate, (length: sqlite3_int64) -> c_int);
pass!(real_sync, xSync, (flags: c_int) -> c_int);
pass!(real_close, xClose, () -> c_int);
pass!(file_size, xFileSize, (size: *mut sqlite3_int64) -> c_int);
pass!(lock, xLock, (how: c_int) -> c_int);
pass!(unlock, xUnlock, (how: c_int) -> c_int);
pass!(check_reserved_lock, xCheckReservedLock, (out: *mut c_int) -> c_int);
pass!(file_control, xFileControl, (what: c_int, with: *mut c_void) -> c_int);
pass!(sector_size, xSectorSize, () -> c_int);
pass!(device_characteristics, xDeviceCharacteristics, () -> c_int);
pass!(shm_map, xShmMap, (page: c_int, size: c_int, extend: c_int, to: *mut *mut c_void) -> c_int);
pass!(shm_lock, xShmLock, (offset: c_int, count: c_int, flags: c_int) -> c_int);
pass!(shm_barrier, xShmBarrier, () -> ());
pass!(shm_unmap, xShmUnmap, (delete: c_int) -> c_int);
pass!(fetch, xFetch, (at: sqlite3_int64, length: c_int, to: *mut *mut c_void) -> c_int);
pass!(unfetch, xUnfetch, (at: sqlite3_int64, from: *mut c_void) -> c_int);

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};

/// Returns what this layer knows of a file.
///
/// # Safety
/// `file` was opened by this layer, and nobody else refers to it meanwhile.
unsafe fn watched<'a>(file: *mut sqlite3_file) -> &'a mut Watched {
    // SAFETY: `open` filled it in.
    unsafe { &mut *file.cast() }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    length: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: as SQLite calls it, with an open file and `length` bytes.
    unsafe {
        if QUOTA.get() {
            *libc::__errno_location() = libc::EDQUOT;
            return SQLITE_IOERR_WRITE;
        }
        let done = real_write(file, from, length, at);
        if done == SQLITE_OK
            && let Some(path) = watched(file).path()
        {
            let bytes = std::slice::from_raw_parts(from.cast::<u8>(), length as usize);
            tell(path, Change::Write(at as u64, bytes.to_vec()));
        }
        done
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: sqlite3_int64) -> c_int {
    // SAFETY: as SQLite calls it, with an open file.
    unsafe {
        let done = real_truncate(file, length);
        if done == SQLITE_OK
            && let Some(path) = watched(file).path()
        {
            tell(path, Change::Truncate(length as u64));
        }
        done
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as SQLite calls it, with an open file.
    unsafe {
        let done = real_sync(file, flags);
        let watched = watched(file);
        let directory = std::mem::take(&mut watched.syncs_directory);
        if done == SQLITE_OK
            && let Some(path) = watched.path()
        {
            tell(path, Change::Sync);
            if let Some(parent) = path.parent().filter(|_| directory) {
                tell(parent, Change::Sync);
            }
        }
        done
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as SQLite calls it, once for an open file, whose name `open` leaked.
    unsafe {
        let path = std::mem::replace(&mut watched(file).path, ptr::null_mut());
        if !path.is_null() {
            drop(Box::from_raw(path));
        }
        real_close(file)
    }
}

/// Returns the wrapped layer.
///
/// # Safety
/// `vfs` is this layer.
unsafe fn below(vfs: *mut sqlite3_vfs) -> *mut sqlite3_vfs {
    // SAFETY: `install` put it there.
    unsafe { (*vfs).pAppData.cast() }
}

/// Returns a name as a path; none for a temporary file.
///
/// # Safety
/// It is null or ends with a zero byte.
unsafe fn path_of(name: *const c_char) -> Option<PathBuf> {
    if name.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    let name = unsafe { CStr::from_ptr(name) };
    Some(OsStr::from_bytes(name.to_bytes()).into())
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as SQLite calls it: `file` has room for `szOsFile` bytes, and `name` ends with zero.
    unsafe {
        let path = path_of(name);
        let made =
            flags & SQLITE_OPEN_CREATE != 0 && path.as_ref().is_some_and(|path| !path.exists());
        let log = flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL) != 0;
        let below = below(vfs);
        let real = real(file);
        let done = ((*below).xOpen.expect("a layer opens files"))(below, name, real, flags, out);
        (*file).pMethods = ptr::null();
        if (*real).pMethods.is_null() {
            return done;
        }
        if let Some(path) = path.as_ref().filter(|_| made) {
            tell(path, Change::Make);
        }
        file.cast::<Watched>().write(Watched {
            base: sqlite3_file { pMethods: &METHODS },
            path: path.map_or(ptr::null_mut(), |path| Box::into_raw(Box::new(path))),
            syncs_directory: log && flags & SQLITE_OPEN_CREATE != 0,
        });
        done
    }
}

unsafe extern "C" fn delete(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    sync_directory: c_int,
) -> c_int {
    // SAFETY: as SQLite calls it, with a name that ends with zero.
    unsafe {
        let below = below(vfs);
        let done = ((*below).xDelete.expect("a layer deletes files"))(below, name, sync_directory);
        if done == SQLITE_OK
            && let Some(path) = path_of(name)
        {
            tell(&path, Change::Remove);
            if let Some(parent) = path.parent().filter(|_| sync_directory != 0) {
                tell(parent, Change::Sync);
            }
        }
        done
    }
}

/// Makes the layer the default of this process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the wrapped layer is static. This one is a copy of it, leaked, so that what is
        // not replaced here (paths, randomness, time) is the wrapped layer's own, which uses no
        // more of the copy than the fields that are alike; what opens and deletes files is
        // replaced.
        unsafe {
            let below = sqlite3_vfs_find(ptr::null());
            assert!(!below.is_null());
            let mut watching = *below;
            watching.zName = c"watching".as_ptr();
            watching.pNext = ptr::null_mut();
            watching.szOsFile += size_of::<Watched>() as c_int;
            watching.pAppData = below.cast();
            watching.xOpen = Some(open);
            watching.xDelete = Some(delete);
            let watching = Box::leak(Box::new(watching));
            assert_eq!(sqlite3_vfs_register(watching, 1), SQLITE_OK);
        }
    });
}
