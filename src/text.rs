//! Text as the server keeps it: in the database's encoding, compared byte by byte. Nothing is converted
//! on the way in or out, so it works in every encoding.

use std::fmt;

/// Text that is valid in the database's encoding.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Box<[u8]>);

impl Text {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Text(bytes.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(text.as_bytes().into())
    }
}

/// As a person reads it in a test's output; never what goes to a client.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A line put together from texts of the database's encoding and of ASCII: `text![a, " and ", b]`.
macro_rules! text {
    ($($part:expr),+ $(,)?) => {
        $crate::text::join(&[$(AsRef::<[u8]>::as_ref(&$part)),+])
    };
}
pub(crate) use text;

/// The first few names of so many: `"a", "b" and 3 more`.
pub fn list(names: &[Vec<u8>], of: u64) -> Vec<u8> {
    let more = match of.saturating_sub(names.len() as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    text![names.join(&b", "[..]), more]
}

/// What `text!` is made of.
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
