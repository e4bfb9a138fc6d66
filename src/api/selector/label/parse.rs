//! The grammar of label selector texts.

use super::{Operator, Requirement};
use crate::names;
use crate::quoting::quote;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Error,
    End,
    ClosedParenthesis,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    GreaterThan,
    Identifier,
    In,
    LessThan,
    NotEquals,
    NotIn,
    OpenParenthesis,
}

const BINARY_OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

pub(super) fn selector(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { items: scan(text), position: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            (Token::End, _) => return Ok(requirements),
            (Token::Identifier | Token::Not, _) => {}
            (_, found) => return Err(format!("found '{found}', expected: !, identifier, or 'end of string'")),
        }
        requirements.push(parser.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?);
        match parser.next() {
            (Token::End, _) => return Ok(requirements),
            (Token::Comma, _) => match parser.peek() {
                (Token::Identifier | Token::Not, _) => {}
                (_, found) => return Err(format!("found '{found}', expected: identifier after ','")),
            },
            (_, found) => return Err(format!("found '{found}', expected: ',' or 'end of string'")),
        }
    }
}

struct Parser {
    items: Vec<(Token, String)>,
    position: usize,
}

impl Parser {
    /// The current token where a value may stand: `in` and `notin` are then words like any other.
    fn peek(&self) -> (Token, String) {
        let (token, text) = self.raw();
        (if matches!(token, Token::In | Token::NotIn) { Token::Identifier } else { token }, text)
    }

    fn raw(&self) -> (Token, String) {
        self.items.get(self.position).cloned().unwrap_or((Token::End, String::new()))
    }

    fn next(&mut self) -> (Token, String) {
        let item = self.peek();
        self.position += 1;
        item
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let messages = names::qualified_name(&key);
        if !messages.is_empty() {
            return Err(format!("<nil>: Invalid value: {}: {}", quote(&key), messages.join("; ")));
        }
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        values.sort();
        values.dedup();
        Requirement::new(&key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let (token, found) = self.raw();
        self.position += 1;
        Ok(match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::GreaterThan => Operator::GreaterThan,
            Token::LessThan => Operator::LessThan,
            _ => return Err(format!("found '{found}', expected: {BINARY_OPERATORS}")),
        })
    }

    fn exact_value(&mut self) -> Result<String, String> {
        match self.peek() {
            (Token::End | Token::Comma, _) => Ok(String::new()),
            (Token::Identifier, value) => {
                self.position += 1;
                Ok(value)
            }
            (_, found) => Err(format!("found '{found}', expected: identifier")),
        }
    }

    /// `(a, b,)`: an empty place is the empty value.
    fn values(&mut self) -> Result<Vec<String>, String> {
        let (token, found) = self.next();
        if token != Token::OpenParenthesis {
            return Err(format!("found '{found}' expected: '('"));
        }
        match self.peek() {
            (Token::Identifier | Token::Comma, _) => {}
            (Token::ClosedParenthesis, _) => {
                self.position += 1;
                return Ok(vec![String::new()]);
            }
            (_, found) => return Err(format!("found '{found}', expected: ',', ')' or identifier")),
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                (Token::Identifier, value) => {
                    values.push(value);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::ClosedParenthesis, _) => break,
                        (_, found) => return Err(format!("found '{found}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() || self.peek().0 == Token::Comma {
                        values.push(String::new());
                    }
                    if self.peek().0 == Token::ClosedParenthesis {
                        values.push(String::new());
                        break;
                    }
                }
                (_, found) => return Err(format!("found '{found}', expected: ',', or identifier")),
            }
        }
        self.position += 1;
        Ok(values)
    }
}

fn scan(text: &str) -> Vec<(Token, String)> {
    let special = |character: char| "=!(),><".contains(character);
    let space = |character: char| " \t\r\n".contains(character);
    let mut items = Vec::new();
    let mut rest = text.trim_start_matches(space);
    while let Some(first) = rest.chars().next().filter(|first| *first != '\0') {
        let (token, length) = if special(first) {
            symbol(rest)
        } else {
            let length = rest.find(|character| special(character) || space(character)).unwrap_or(rest.len());
            (word(&rest[..length]), length)
        };
        let text = match token {
            Token::Error => format!("error expected: keyword found '{}'", &rest[..length]),
            _ => rest[..length].to_owned(),
        };
        items.push((token, text));
        rest = rest[length..].trim_start_matches(space);
    }
    items.push((Token::End, String::new()));
    items
}

fn word(text: &str) -> Token {
    match text {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Identifier,
    }
}

/// The longest operator that `text` begins with, and its length in bytes.
fn symbol(text: &str) -> (Token, usize) {
    if text.starts_with("==") {
        return (Token::DoubleEquals, 2);
    }
    if text.starts_with("!=") {
        return (Token::NotEquals, 2);
    }
    let token = match text.as_bytes().first() {
        Some(b')') => Token::ClosedParenthesis,
        Some(b'(') => Token::OpenParenthesis,
        Some(b',') => Token::Comma,
        Some(b'!') => Token::Not,
        Some(b'=') => Token::Equals,
        Some(b'>') => Token::GreaterThan,
        Some(b'<') => Token::LessThan,
        _ => Token::Error,
    };
    (token, 1)
}
