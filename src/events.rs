//! Events: what is sent to who has said `LISTEN softlock`, when the transaction that did it commits. Each
//! message is a JSON object, in the database's encoding, with nothing in it that is private.

use crate::journal::{Change, Event};
use crate::pg::at_commit;
use crate::pg::row::Row;
use crate::settings::{self, Told};
use crate::text::{Text, text};

/// So many messages are sent for one transaction; more become one that only counts.
const MOST: usize = 16;

/// Tells listeners of a change, if they are to be told.
pub fn note(change: &Change) {
    let told = settings::notify();
    if told == Told::Off {
        return;
    }
    if let Some(lock) = change.ended() {
        at_commit::notify(
            change.event,
            change.resource.as_text(),
            &lock.owner,
            lock.units,
        );
    }
    // What is only kept for longer has neither been taken nor become free; of what is kept with another
    // number of units, some has.
    let is_told = match change.taken() {
        Some((Event::Granted, _)) => told == Told::All,
        Some((Event::Renewed, lock)) => change.before.is_some_and(|before| {
            lock.units < before.units || told == Told::All && lock.units > before.units
        }),
        _ => false,
    };
    if let Some((event, lock)) = change.taken().filter(|_| is_told) {
        at_commit::notify(event, change.resource.as_text(), &lock.owner, lock.units);
    }
}

/// Tells listeners of a lock that was swept.
pub fn note_lapsed(row: &Row) {
    if settings::notify() != Told::Off {
        at_commit::notify(Event::Lapsed, &row.resource(), &row.owner(), row.units());
    }
}

/// What happened in a transaction, or since one of its savepoints: one by one while they are few.
#[derive(Debug, Default)]
pub struct Events {
    each: Vec<One>,
    /// Of all, also of those that are not kept one by one.
    count: u64,
    kind: Kind,
}

/// An event, and how often it happened.
#[derive(Debug, PartialEq, Eq)]
struct One {
    event: Event,
    resource: Text,
    owner: Text,
    /// Of the lock.
    units: i32,
    count: u64,
}

/// What all of the events are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[default]
    None,
    Only(Event),
    Mixed,
}

impl Kind {
    fn and(self, other: Kind) -> Kind {
        match (self, other) {
            (Kind::None, kind) | (kind, Kind::None) => kind,
            (one, other) if one == other => one,
            _ => Kind::Mixed,
        }
    }
}

impl Events {
    pub fn push(&mut self, event: Event, resource: &Text, owner: &Text, units: i32) {
        self.count += 1;
        self.kind = self.kind.and(Kind::Only(event));
        if self.is_many() {
            self.each = Vec::new();
            return;
        }
        self.put(One {
            event,
            resource: resource.clone(),
            owner: owner.clone(),
            units,
            count: 1,
        });
    }

    /// Adds what happened since a savepoint that has been released.
    pub fn append(&mut self, later: Events) {
        self.count += later.count;
        self.kind = self.kind.and(later.kind);
        if self.is_many() {
            self.each = Vec::new();
            return;
        }
        later.each.into_iter().for_each(|one| self.put(one));
    }

    /// The server sends equal messages of a transaction only once; so an event that has happened again is
    /// counted in its message.
    fn put(&mut self, one: One) {
        let is_same = |known: &&mut One| {
            (known.event, &known.resource, &known.owner, known.units)
                == (one.event, &one.resource, &one.owner, one.units)
        };
        match self.each.iter_mut().find(is_same) {
            Some(known) => known.count += one.count,
            None => self.each.push(one),
        }
    }

    fn is_many(&self) -> bool {
        self.count > MOST as u64
    }

    /// What is sent.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        if !self.is_many() {
            return self.each.iter().map(One::message).collect();
        }
        let event = match self.kind {
            Kind::Only(event) => event.name(),
            _ => "many",
        };
        let count = self.count.to_string();
        vec![text![
            "{\"event\": \"",
            event,
            "\", \"count\": ",
            count,
            "}"
        ]]
    }
}

impl One {
    fn message(&self) -> Vec<u8> {
        let units = match self.units {
            1 => String::new(),
            units => format!(", \"units\": {units}"),
        };
        let count = match self.count {
            1 => String::new(),
            count => format!(", \"count\": {count}"),
        };
        text![
            "{\"event\": \"",
            self.event.name(),
            "\", \"resource\": ",
            quoted(&self.resource),
            ", \"owner\": ",
            quoted(&self.owner),
            units,
            count,
            "}"
        ]
    }
}

/// A text as JSON has it. All encodings that a database can have keep ASCII's bytes to ASCII.
fn quoted(text: &Text) -> Vec<u8> {
    let mut json = vec![b'"'];
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => json.extend([b'\\', byte]),
            0..0x20 => json.extend(format!("\\u{byte:04x}").bytes()),
            _ => json.push(byte),
        }
    }
    json.push(b'"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(events: &Events) -> Vec<String> {
        let messages = events.messages().into_iter();
        messages
            .map(|message| String::from_utf8(message).unwrap())
            .collect()
    }

    fn push(events: &mut Events, event: Event, numbers: std::ops::Range<usize>) {
        for number in numbers {
            events.push(
                event,
                &format!("kit:{number}").as_str().into(),
                &"anna".into(),
                1,
            );
        }
    }

    #[test]
    fn an_event_is_a_json_object_of_what_where_and_who() {
        let mut events = Events::default();
        events.push(
            Event::Released,
            &"kit:\"4\\2\"\n\u{7f}é".into(),
            &"anna".into(),
            1,
        );
        assert_eq!(
            messages(&events),
            [
                "{\"event\": \"released\", \"resource\": \"kit:\\\"4\\\\2\\\"\\u000a\u{7f}é\", \"owner\": \"anna\"}"
            ]
        );
    }

    #[test]
    fn the_longest_names_of_control_characters_fit_into_a_notification() {
        let name = |bytes: usize| Text::from(&vec![1; bytes][..]);
        for event in [Event::Granted, Event::Released, Event::Consumed] {
            let mut events = Events::default();
            for _ in 0..MOST {
                events.push(event, &name(1024), &name(256), i32::MAX);
            }
            let [message] = &events.messages()[..] else {
                panic!("{events:?}");
            };
            assert!(message.len() < 8000, "{}", message.len());
        }
    }

    #[test]
    fn what_happened_again_is_counted_in_its_message() {
        let mut events = Events::default();
        push(&mut events, Event::Released, 1..2);
        push(&mut events, Event::Released, 1..3);
        assert_eq!(
            messages(&events),
            [
                "{\"event\": \"released\", \"resource\": \"kit:1\", \"owner\": \"anna\", \"count\": 2}",
                "{\"event\": \"released\", \"resource\": \"kit:2\", \"owner\": \"anna\"}"
            ]
        );
    }

    #[test]
    fn more_than_sixteen_become_one_with_their_count() {
        let mut events = Events::default();
        push(&mut events, Event::Lapsed, 0..16);
        assert_eq!(messages(&events).len(), 16);
        push(&mut events, Event::Lapsed, 16..17);
        assert_eq!(
            messages(&events),
            ["{\"event\": \"lapsed\", \"count\": 17}"]
        );
        push(&mut events, Event::Granted, 1..2);
        assert_eq!(messages(&events), ["{\"event\": \"many\", \"count\": 18}"]);
    }

    #[test]
    fn the_units_of_a_lock_are_told_where_it_has_more_than_one() {
        let mut events = Events::default();
        events.push(Event::Granted, &"rose:7".into(), &"anna".into(), 3);
        assert_eq!(
            messages(&events),
            [
                "{\"event\": \"granted\", \"resource\": \"rose:7\", \"owner\": \"anna\", \"units\": 3}"
            ]
        );
    }

    #[test]
    fn what_is_many_together_is_counted_and_what_is_few_is_kept() {
        let (mut few, mut other) = (Events::default(), Events::default());
        push(&mut few, Event::Released, 0..8);
        push(&mut other, Event::Released, 8..16);
        few.append(other);
        assert_eq!(messages(&few).len(), 16);
        let mut one_more = Events::default();
        push(&mut one_more, Event::Broken, 0..1);
        few.append(one_more);
        assert_eq!(messages(&few), ["{\"event\": \"many\", \"count\": 17}"]);
    }
}
