//! Which words an argument takes, so that a shell completes them.
//!
//! What the words mean, and the refusal of others, stays with their own types.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser, ValueParser};
use clap::{Arg, Command, value_parser};

use crate::desk::Region;
use crate::domain::job::{Library, Status};
use crate::manifest::OnConflict;
use crate::sandbox::{AdminCode, Fault, JsonCode, RateCode, UnknownIds, Window};

/// `arg`, knowing its words if it takes words.
pub(super) fn known(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "region" => texts(arg, Region::ALL.map(Region::name)),
        "library" => with(arg, read::<Library>, Library::ALL.map(Library::name)),
        "status" => with(arg, read::<Status>, Status::ALL.map(Status::name)),
        "on_conflict" => with(arg, read::<OnConflict>, ["first", "last"]),
        "window" => texts(arg, Window::ALL.iter().map(|word| word.name())),
        "unknown_ids" => texts(arg, UnknownIds::ALL.iter().map(|word| word.name())),
        "rate_code" => texts(arg, RateCode::ALL.iter().map(|word| word.name())),
        "admin_code" => texts(arg, AdminCode::ALL.iter().map(|word| word.name())),
        "json_code" => texts(arg, JsonCode::ALL.iter().map(|word| word.name())),
        "poison" => texts(arg, Fault::ALL.iter().map(|word| word.name())),
        "addr" => arg.value_parser(read_address),
        _ => number(arg),
    }
}

/// Numbers are refused in words that say what to write.
fn number(arg: Arg) -> Arg {
    let is_of = |parser: ValueParser| arg.get_value_parser().type_id() == parser.type_id();
    if is_of(value_parser!(u64).into()) {
        return arg.value_parser(whole::<u64>);
    }
    if is_of(value_parser!(u32).into()) {
        return arg.value_parser(whole::<u32>);
    }
    if is_of(value_parser!(usize).into()) {
        return arg.value_parser(whole::<usize>);
    }
    if is_of(value_parser!(i64).into()) {
        return arg.value_parser(signed);
    }
    if is_of(value_parser!(f64).into()) {
        return arg.value_parser(with_parts);
    }
    arg
}

fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "not a whole number from 0: write digits alone".to_owned())
}

fn signed(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "not a whole number: write digits, as 6 or -50003".to_owned())
}

fn with_parts(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "not a number: write digits, as 5 or 0.5".to_owned())
}

fn read_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an address with a port: write 127.0.0.1:8047".to_owned())
}

fn read<T: FromStr<Err = String>>(text: &str) -> Result<T, String> {
    text.parse()
}

/// Of these the settings judge, since they may come from the file as well.
fn texts(arg: Arg, words: impl IntoIterator<Item = &'static str>) -> Arg {
    with(arg, StringValueParser::new(), words)
}

/// The words stand in the help of the argument itself.
fn with<P>(arg: Arg, parser: P, words: impl IntoIterator<Item = &'static str>) -> Arg
where
    P: TypedValueParser,
    P::Value: Send + Sync + Clone,
{
    let words = words.into_iter().collect();
    arg.value_parser(Known { parser, words }).hide_possible_values(true)
}

/// A parser that knows which words it takes, for completions and the help.
#[derive(Clone)]
struct Known<P> {
    parser: P,
    words: Vec<&'static str>,
}

impl<P: TypedValueParser> TypedValueParser for Known<P> {
    type Value = P::Value;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<P::Value, clap::Error> {
        self.parser.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.words.iter().map(PossibleValue::new)))
    }
}
