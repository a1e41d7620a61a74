//! What is done through an open file (S4, S7).

use super::*;

impl Reference {
    pub fn open(&mut self, key: Key, mode: Mode) -> Outcome<Handle> {
        let creates = matches!(mode, Mode::Create | Mode::Append | Mode::Truncate);
        let (read, write) = match mode {
            Mode::Read => (true, false),
            Mode::Edit | Mode::Create => (true, true),
            Mode::Append | Mode::Truncate => (false, true),
        };
        let ino = match self.lookup(key) {
            Err(libc::ENOENT) if creates && self.exists() => {
                let base = self.absent();
                let ino = self.insert(key, base, String::new());
                self.nodes[ino].unsent = Some(Unsent {
                    text: String::new(),
                    kind: Kind::Whole,
                    base,
                    flushable: false,
                    dated: false,
                    refused: false,
                });
                ino
            }
            found => {
                let ino = found?;
                let node = &self.nodes[ino];
                if read && node.content.is_empty() && node.unsent.is_none() {
                    self.shown.insert(key, node.base);
                }
                if mode == Mode::Truncate {
                    self.truncate(ino, 0, false);
                }
                ino
            }
        };
        self.nodes[ino].opens += 1;
        self.nodes[ino].writers += u32::from(write);
        Ok(Handle {
            ino,
            write,
            append: mode == Mode::Append,
        })
    }

    pub fn read(&mut self, handle: Handle) -> String {
        let node = &self.nodes[handle.ino];
        let local = node.unsent.as_ref();
        let local = local.is_some_and(|unsent| unsent.kind != Kind::Times);
        if !local && node.standing == Standing::Named && !node.content.is_empty() {
            self.shown.insert(node.key, node.base);
        }
        self.text(handle.ino).to_owned()
    }

    /// Writes at a place within the file, or at its end, and returns where.
    pub fn write(&mut self, handle: Handle, at: u8, text: &str) -> usize {
        let unsent = self.begin(handle.ino);
        let end = unsent.text.len();
        let at = match handle.append {
            true => end,
            false => usize::from(at) % (end + 1),
        };
        unsent.kind = match unsent.kind {
            Kind::Times if handle.append => Kind::Append { from: end },
            Kind::Append { from } if handle.append => Kind::Append { from },
            Kind::Whole => Kind::Whole,
            Kind::Times | Kind::Append { .. } | Kind::Edit => Kind::Edit,
        };
        let behind = unsent.text.split_off((at + text.len()).min(end));
        unsent.text.truncate(at);
        unsent.text += text;
        unsent.text += &behind;
        touched(unsent);
        at
    }

    pub fn cut_open(&mut self, handle: Handle, size: u8) -> u64 {
        let size = usize::from(size) % (self.text(handle.ino).len() + 1);
        self.truncate(handle.ino, size, true);
        size as u64
    }

    pub fn fsync(&mut self, handle: Handle) -> Outcome<()> {
        self.push(handle.ino, Extent::All)
    }

    /// A descriptor of an open file is closed, not the last one.
    pub fn flush(&mut self, handle: Handle) -> Outcome<()> {
        self.push(handle.ino, Extent::Flushable)
    }

    pub fn close(&mut self, handle: Handle) -> Outcome<()> {
        let ino = handle.ino;
        let flushed = match handle.write {
            true => self.flush(handle),
            false => Ok(()),
        };
        let node = &mut self.nodes[ino];
        node.writers -= u32::from(handle.write);
        let last_writer = handle.write && node.writers == 0;
        let refused = node.unsent.as_ref().is_some_and(|unsent| unsent.refused);
        let sent = match last_writer {
            true if refused => Err(libc::EIO),
            true => self.push(ino, Extent::Closed),
            false => Ok(()),
        };
        if sent.is_err() {
            self.park(ino);
        }
        self.nodes[ino].opens -= 1;
        if self.nodes[ino].opens == 0 || sent.is_err() {
            self.discard(ino);
        }
        flushed
    }

    pub(super) fn truncate(&mut self, ino: Ino, size: usize, flushable: bool) {
        let unsent = self.begin(ino);
        unsent.kind = match unsent.kind {
            Kind::Whole => Kind::Whole,
            Kind::Times if size == 0 => Kind::Whole,
            Kind::Times | Kind::Append { .. } | Kind::Edit => Kind::Edit,
        };
        unsent.text.truncate(size);
        let was_flushable = unsent.flushable;
        touched(unsent);
        unsent.flushable = was_flushable || flushable;
    }

    pub(super) fn begin(&mut self, ino: Ino) -> &mut Unsent {
        let text = self.text(ino).to_owned();
        let unsent = self.begin_times(ino);
        unsent.text = text;
        unsent
    }

    pub(super) fn begin_times(&mut self, ino: Ino) -> &mut Unsent {
        let base = self.base_at(ino);
        self.nodes[ino].unsent.get_or_insert(Unsent {
            text: String::new(),
            kind: Kind::Times,
            base,
            flushable: false,
            dated: false,
            refused: false,
        })
    }

    pub(super) fn park(&mut self, ino: Ino) {
        let node = &self.nodes[ino];
        if let Some(unsent) = &node.unsent
            && node.standing != Standing::Removed
            && unsent.kind != Kind::Times
        {
            let count = unsent.base.count.unwrap_or(0);
            let text = unsent.text.clone();
            self.parked.insert((node.key, count, "local", text));
        }
    }

    pub(super) fn discard(&mut self, ino: Ino) {
        let node = &mut self.nodes[ino];
        if let Some(unsent) = node.unsent.take() {
            node.dropped = true;
            node.base = unsent.base;
            if node.standing == Standing::Named {
                self.shown.insert(node.key, unsent.base);
            }
            self.supersede(ino);
        }
    }
}
