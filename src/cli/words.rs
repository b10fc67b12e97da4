//! Which words an argument takes, so that a shell completes them.
//!
//! What the words mean, and the refusal of others, stays with their own types.

use std::ffi::OsStr;
use std::str::FromStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command};

use crate::desk::Region;
use crate::job::{Library, Status};
use crate::manifest::OnConflict;
use crate::sandbox::{AdminCode, JsonCode, RateCode, TooManyCode, UnknownIds, Window};

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
        "too_many_code" => texts(arg, TooManyCode::ALL.iter().map(|word| word.name())),
        _ => arg,
    }
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
