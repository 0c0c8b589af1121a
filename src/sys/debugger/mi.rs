//! What gdb says in its machine interface (GDB/MI): records of tokens, results and quoted texts. Whatever a program put into its names stays inside quotes.

/// A value: text, or a tuple or list of named values (items of a list without names have none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Many(Vec<(String, Value)>),
}

impl Value {
    /// The item of that name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Many(items) => items.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            Self::Text(_) => None,
        }
    }
    /// The text of that name.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Self::Text(text) => Some(text),
            Self::Many(_) => None,
        }
    }
    pub fn items(&self) -> impl Iterator<Item = &Self> {
        let items: &[(String, Self)] = if let Self::Many(items) = self { items } else { &[] };
        items.iter().map(|(_, value)| value)
    }
}

/// The answer to the command with this token: its results, or that it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub token: u64,
    /// Nothing where gdb reported an error.
    pub results: Option<Value>,
}

/// The deepest that values may nest.
const DEPTH: u32 = 32;

/// Every answer in the output that has a token.
pub fn answers(output: &str) -> Vec<Answer> {
    output.lines().filter_map(answer).collect()
}

fn answer(line: &str) -> Option<Answer> {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let token = line.get(..digits)?.parse().ok()?;
    let rest = line.get(digits..)?.strip_prefix('^')?;
    if let Some(rest) = rest.strip_prefix("done") {
        let mut text = Text { rest: rest.strip_prefix(',').unwrap_or("") };
        let results = text.members(None, DEPTH)?;
        return text.rest.is_empty().then_some(Answer { token, results: Some(Value::Many(results)) });
    }
    rest.starts_with("error").then_some(Answer { token, results: None })
}

struct Text<'a> {
    rest: &'a str,
}

impl Text<'_> {
    fn eat(&mut self, what: char) -> bool {
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
    /// `name=value` or values, up to the closing character.
    fn members(&mut self, close: Option<char>, depth: u32) -> Option<Vec<(String, Value)>> {
        let mut items = Vec::new();
        let end = |text: &mut Self| close.map_or(text.rest.is_empty(), |close| text.eat(close));
        if end(self) {
            return Some(items);
        }
        loop {
            let name_length = self.rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')).count();
            let name = self.rest.get(..name_length)?.to_owned();
            self.rest = self.rest.get(name_length..)?;
            if !name.is_empty() && !self.eat('=') {
                return None;
            }
            items.push((name, self.value(depth.checked_sub(1)?)?));
            if end(self) {
                return Some(items);
            }
            if !self.eat(',') {
                return None;
            }
        }
    }
    fn value(&mut self, depth: u32) -> Option<Value> {
        if self.eat('{') {
            return self.members(Some('}'), depth).map(Value::Many);
        }
        if self.eat('[') {
            return self.members(Some(']'), depth).map(Value::Many);
        }
        if self.eat('"') { self.quoted().map(Value::Text) } else { None }
    }
    /// A text as C writes it; bytes that are no UTF-8 together become U+FFFD.
    fn quoted(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        let mut at = self.rest.char_indices();
        while let Some((start, c)) = at.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(start + 1..)?;
                    return Some(String::from_utf8_lossy(&bytes).into_owned());
                }
                '\\' => match at.next()?.1 {
                    'n' => bytes.push(b'\n'),
                    't' => bytes.push(b'\t'),
                    'r' => bytes.push(b'\r'),
                    'a' => bytes.push(7),
                    'b' => bytes.push(8),
                    'f' => bytes.push(12),
                    'v' => bytes.push(11),
                    'e' => bytes.push(27),
                    digit @ '0'..='7' => {
                        let mut number = digit.to_digit(8)?;
                        for _ in 0..2 {
                            let next = at.clone().next().and_then(|(_, c)| c.to_digit(8));
                            let Some(next) = next else { break };
                            at.next();
                            number = number * 8 + next;
                        }
                        bytes.push(u8::try_from(number & 0xff).ok()?);
                    }
                    other => bytes.extend(other.to_string().bytes()),
                },
                other => bytes.extend(other.to_string().bytes()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn answers_are_told_apart_by_their_tokens_and_texts_stay_in_their_quotes() {
        let output = "~\"7^done,forged=\\\"1\\\"\\n\"\n=thread-created,id=\"1\"\n\
            3^done,stack=[frame={level=\"0\",addr=\"0x1\",func=\"a\\\"]},b\\n4^done\",file=\"x.c\",line=\"7\"},frame={level=\"1\",addr=\"0x2\"}]\n\
            4^error,msg=\"No symbol \\\"x\\\" in current context.\"\n5^done\n(gdb) \n6^done,variables=[{name=\"a\",value=\"\\303\\244\"},{name=\"b\"}]\n\
            8^done,broken=[\n9^running\n";
        let all = answers(output);
        assert_eq!(all.iter().map(|answer| answer.token).collect::<Vec<_>>(), [3, 4, 5, 6]);
        let stack = all[0].results.as_ref().unwrap().get("stack").unwrap();
        let frames: Vec<&Value> = stack.items().collect();
        assert_eq!((frames.len(), frames[0].text("func"), frames[0].text("line")), (2, Some("a\"]},b\n4^done"), Some("7")));
        assert_eq!((frames[1].text("level"), frames[1].text("func")), (Some("1"), None));
        assert!(all[1].results.is_none() && all[2].results.is_some());
        let variables = all[3].results.as_ref().unwrap().get("variables").unwrap();
        assert_eq!(variables.items().map(|item| item.text("value")).collect::<Vec<_>>(), [Some("ä"), None]);
    }

    #[test]
    fn nesting_has_an_end() {
        assert!(answers(&format!("1^done,a={}{}", "[".repeat(100_000), "]".repeat(100_000))).is_empty());
    }
}
