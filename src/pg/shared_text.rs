//! A text in shared memory.

use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of each text, the closing NUL included.
const ROOM: usize = 512;

/// A text of UTF-8, cut where there is no more room. All zeroes is the empty one. Who may read while it is
/// written sees to a lock.
pub struct SharedText([AtomicU8; ROOM]);

impl SharedText {
    pub fn new() -> Self {
        SharedText(std::array::from_fn(|_| AtomicU8::new(0)))
    }

    /// Writes as much as there is room for.
    pub fn write(&self, text: &str) {
        let mut ends = (0..ROOM).rev();
        let end = ends.find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        let bytes = text.as_bytes()[..end].iter().chain(&[0]);
        for (to, &from) in self.0.iter().zip(bytes) {
            to.store(from, Relaxed);
        }
    }

    pub fn read(&self) -> String {
        let bytes = self.0.iter().map(|byte| byte.load(Relaxed));
        let bytes: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let text = SharedText::new();
        text.write(&"ж".repeat(ROOM));
        assert_eq!(text.read(), "ж".repeat((ROOM - 1) / 2));
        text.write("short");
        assert_eq!(text.read(), "short");
    }
}
