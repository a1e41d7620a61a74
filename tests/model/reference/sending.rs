//! What becomes of a change when it is sent (S9, S10).

use super::*;

impl Reference {
    pub(super) fn push(&mut self, ino: Ino, extent: Extent) -> Outcome<()> {
        let node = &self.nodes[ino];
        let Some(unsent) = &node.unsent else {
            return Ok(());
        };
        let waits = match extent {
            Extent::Flushable => !unsent.flushable,
            Extent::Closed => node.writers > 0,
            Extent::All => false,
        };
        if waits || node.standing == Standing::Removed {
            return Ok(());
        }
        let times = unsent.kind == Kind::Times;
        let same = node.base.count.is_some() && !times && unsent.text == node.content;
        if same && !unsent.dated {
            self.nodes[ino].unsent = None;
            return Ok(());
        }
        let text = unsent.text.clone();
        let wish = Wish {
            key: node.key,
            base: unsent.base,
            what: match unsent.kind {
                Kind::Whole => What::Whole(text.clone()),
                Kind::Edit => What::Edit(text.clone()),
                Kind::Append { from } => What::Append(text[from..].to_owned()),
                Kind::Times => What::Times,
            },
            keeps_unseen: self.keeps_unseen,
        };
        let key = node.key;
        // What is appended to a version that nobody here has read does not show it.
        let blind = matches!(wish.what, What::Append(_)) && wish.base != node.base;
        if self.update(vec![wish]).is_err() {
            if let Some(unsent) = &mut self.nodes[ino].unsent {
                unsent.refused = true;
            }
            return Err(libc::ESTALE);
        }
        let record = self.service.records[&key].clone();
        let landed = self.current(&record);
        let node = &mut self.nodes[ino];
        node.unsent = None;
        if times || record.value == text {
            node.content = record.value;
            node.base = landed;
            if node.standing == Standing::Named && !blind {
                self.shown.insert(key, landed);
            }
        } else {
            node.content = text;
            self.supersede(ino);
        }
        Ok(())
    }

    /// One update of the service, which is made whole or not at all.
    pub(super) fn update(&mut self, wishes: Vec<Wish>) -> Result<(), ()> {
        let verdicts: Result<Vec<Verdict>, ()> =
            wishes.iter().map(|wish| self.decide(wish)).collect();
        let verdicts = verdicts?;
        if verdicts
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Nothing))
        {
            return Ok(());
        }
        self.service.count += 1;
        self.service.exists = true;
        self.made = false;
        for (wish, verdict) in wishes.iter().zip(verdicts) {
            let value = match verdict {
                Verdict::Nothing => continue,
                Verdict::Remove => None,
                Verdict::Replace(value) => Some(value),
            };
            let lives_on = matches!(wish.what, What::Append(_) | What::Times);
            let current = self.is_current(wish);
            if let Some(old) = self.service.records.get(&wish.key)
                && value.as_ref() != Some(&old.value)
                && !lives_on
                && !current
            {
                let kept = (wish.key, old.count, "remote", old.value.clone());
                self.parked.insert(kept);
            }
            match value {
                Some(value) => {
                    let count = self.service.count;
                    let record = Record { value, count };
                    self.service.records.insert(wish.key, record);
                }
                None => {
                    self.service.records.remove(&wish.key);
                }
            }
        }
        Ok(())
    }

    fn is_current(&self, wish: &Wish) -> bool {
        let count = self
            .service
            .records
            .get(&wish.key)
            .map(|record| record.count);
        wish.base.life == self.life && wish.base.count == count
    }

    fn decide(&self, wish: &Wish) -> Result<Verdict, ()> {
        let theirs = self
            .service
            .records
            .get(&wish.key)
            .map(|record| &record.value);
        let current = self.is_current(wish);
        let same_life = wish.base.life == self.life;
        let replaces = same_life && wish.keeps_unseen;
        let verdict = match (&wish.what, theirs) {
            (What::Whole(value) | What::Edit(value), _) if current => {
                Verdict::Replace(value.clone())
            }
            (What::Whole(value) | What::Edit(value), Some(theirs)) if value == theirs => {
                Verdict::Nothing
            }
            (What::Whole(value), None) if same_life => Verdict::Replace(value.clone()),
            (What::Whole(value), Some(_)) if replaces => Verdict::Replace(value.clone()),
            (What::Append(text), Some(theirs)) if same_life => {
                Verdict::Replace(theirs.clone() + text)
            }
            (What::Times, Some(value)) if current => Verdict::Replace(value.clone()),
            (What::Remove, None) => Verdict::Nothing,
            (What::Remove, Some(_)) if current || replaces => Verdict::Remove,
            _ => return Err(()),
        };
        Ok(verdict)
    }
}
