//! Numbers, texts and lists as bytes, for what is kept in the cache: each text and list after its length, little endian.

/// Writes.
#[derive(Default)]
pub struct Packer(pub Vec<u8>);

impl Packer {
    /// What is kept is bounded far below 4 GiB.
    pub fn number(&mut self, number: usize) {
        self.0.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }
    pub fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }
    pub fn texts(&mut self, texts: &[String]) {
        self.number(texts.len());
        texts.iter().for_each(|text| self.text(text));
    }
    pub fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }
    /// Whether there is one, and the text.
    pub fn maybe(&mut self, text: Option<&str>) {
        self.flag(text.is_some());
        if let Some(text) = text {
            self.text(text);
        }
    }
}

/// Reads what [`Packer`] wrote; None for what it cannot have written.
pub struct Unpacker<'a>(pub &'a [u8]);

impl Unpacker<'_> {
    pub fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }
    pub fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }
    pub fn texts(&mut self) -> Option<Vec<String>> {
        (0..self.number()?).map(|_| self.text()).collect()
    }
    pub fn flag(&mut self) -> Option<bool> {
        let (flag, rest) = self.0.split_first()?;
        self.0 = rest;
        match flag {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
    /// None in the outer sense: it cannot be read.
    #[allow(clippy::option_option, reason = "a text that may be missing, of bytes that may be wrong")]
    pub fn maybe(&mut self) -> Option<Option<String>> {
        if self.flag()? { self.text().map(Some) } else { Some(None) }
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
