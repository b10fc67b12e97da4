//! The table of codes: data only, one row for each code or range with one meaning.
//!
//! From the vendor's page of this API call, the common codes of the Desk REST API, the IM SDK's
//! error header and the account system's lists, as collected in the contract notes, section 4.

use super::verdict::{Class, CodeRow};

const fn row(first: i64, class: Class, meaning: &'static str, advice: &'static str) -> CodeRow {
    CodeRow { first, last: first, class, meaning, advice }
}

const fn range(
    first: i64,
    last: i64,
    class: Class,
    meaning: &'static str,
    advice: &'static str,
) -> CodeRow {
    CodeRow { first, last, class, meaning, advice }
}

const WAITS: &str = "nothing: the run slows down by itself; if the code persists, another program uses the same app";
const RETRIES: &str = "nothing: the run sends the same chunk again after a wait";
const RENEWS: &str = "with a given UserSig, set DESKBATCH_USERSIG to a new one; with a secret key, the run generates a new UserSig by itself, once";
const KEY: &str =
    "check DESKBATCH_SECRET_KEY or DESKBATCH_USERSIG: the key must belong to this SDKAppID";
const ADMIN: &str =
    "check the identifier: it must be an app administrator account of this SDKAppID";
const HOST: &str = "check the SDKAppID and the region: the region must be that of this SDKAppID";
const CONTENT: &str = "check the id in the manifest; if every id is rejected like this, please report a deskbatch bug (malformed request)";
const ADDRESS: &str =
    "check the endpoint: every request goes to the same address with the same parameters";
const CONSOLE: &str = "check the app in the vendor's console";

/// Every code in the vendor's lists, in the order of the contract notes.
pub const CODES: &[CodeRow] = &[
    row(0, Class::Success, "success", "nothing"),
    row(-7, Class::Malformed, "the request body or a parameter is invalid", CONTENT),
    row(-14, Class::Rate, "requests exceed the rate limit of this API", WAITS),
    row(-20, Class::Stop, "the identifier is not an app administrator", ADMIN),
    row(-1, Class::Retry, "system error of the service", RETRIES),
    row(
        -50003,
        Class::QuestionOrApp,
        "a Desk resource is invalid: no question has this id, or the Desk resource of the app has expired",
        "check the id in the console; if every question gets this code, renew the Desk resource of the app there",
    ),
    row(
        -50011,
        Class::Item,
        "a category preset by the system cannot be deleted",
        "disable the question instead of deleting it",
    ),
    row(
        -50040,
        Class::Stop,
        "the app has not activated the Desk service",
        "activate Desk for this SDKAppID in the vendor's console, or correct the SDKAppID",
    ),
    row(-50042, Class::Stop, "the Desk edition has no languages", CONSOLE),
    row(-50051, Class::Malformed, "the language is unknown", CONTENT),
    row(
        -50059,
        Class::Stop,
        "the Desk edition has expired",
        "renew the Desk edition in the vendor's console",
    ),
    row(60002, Class::BadCall, "the HTTP request could not be parsed", ADDRESS),
    row(60003, Class::Malformed, "the request's JSON could not be parsed", CONTENT),
    range(60004, 60005, Class::Stop, "the account or signature is wrong", KEY),
    row(60006, Class::Stop, "the SDKAppID is invalid", "check the SDKAppID"),
    row(60007, Class::Rate, "requests to this API are too frequent", WAITS),
    row(60008, Class::Retry, "the service timed out; the result is unknown", RETRIES),
    row(60009, Class::BadCall, "no such resource at this address", ADDRESS),
    row(60010, Class::Stop, "an app administrator is required", ADMIN),
    row(60011, Class::Rate, "requests of this SDKAppID are too frequent", WAITS),
    row(60012, Class::BadCall, "sdkappid is missing in the URL", ADDRESS),
    row(
        60013,
        Class::Retry,
        "the service could not parse an internal response; the result is unknown",
        RETRIES,
    ),
    row(60014, Class::Retry, "the account exchange timed out", RETRIES),
    row(60015, Class::Malformed, "an account in the body has the wrong type", CONTENT),
    row(60016, Class::Stop, "the SDKAppID is disabled", CONSOLE),
    row(60017, Class::Stop, "the request is disabled", CONSOLE),
    range(60018, 60019, Class::Rate, "requests are too frequent", WAITS),
    row(
        60020,
        Class::Stop,
        "the package has expired, is missing, or was bought less than 5 minutes ago",
        "renew the package, or wait 5 minutes after buying it",
    ),
    row(
        60021,
        Class::Stop,
        "this source IP address may not use the REST API",
        "add the public IP address of this host to the allow list of the app",
    ),
    row(70001, Class::Renew, "the UserSig has expired", RENEWS),
    row(70002, Class::Stop, "the UserSig is empty", KEY),
    range(70003, 70004, Class::Stop, "the UserSig cannot be parsed; usually it was cut off", KEY),
    range(70005, 70008, Class::Stop, "the UserSig check failed", KEY),
    row(70009, Class::Stop, "wrong signature: the key belongs to another SDKAppID", KEY),
    row(70010, Class::Stop, "the UserSig check failed", KEY),
    row(
        70013,
        Class::Stop,
        "the identifier differs from the one in the UserSig",
        "make a UserSig for this identifier, or correct the identifier",
    ),
    row(
        70014,
        Class::Stop,
        "the SDKAppID differs from the one in the UserSig",
        "make a UserSig for this SDKAppID, or correct the SDKAppID",
    ),
    row(70015, Class::Stop, "this SDKAppID and account type cannot be verified", CONSOLE),
    row(70016, Class::Stop, "no key was found for the SDKAppID", HOST),
    row(70017, Class::Retry, "a ticket check timed out", RETRIES),
    row(70018, Class::Stop, "a ticket check failed", KEY),
    row(70019, Class::Stop, "the ticket is empty", KEY),
    row(70020, Class::Stop, "the SDKAppID was not found", HOST),
    row(
        70050,
        Class::Stop,
        "the UserSig check failed too many times",
        "correct the key, then wait one minute before the next run",
    ),
    row(70051, Class::Stop, "the account is on the block list", CONSOLE),
    row(70052, Class::Renew, "the UserSig was invalidated", RENEWS),
    range(
        70101,
        70106,
        Class::Malformed,
        "the request package is empty or an account has a wrong format",
        CONTENT,
    ),
    row(70107, Class::Stop, "the service has no such account", ADMIN),
    row(
        70113,
        Class::Malformed,
        "the number of entries in the batch is not allowed",
        "nothing, or set a smaller --chunk: the run finds how many questions per request the service accepts",
    ),
    row(70114, Class::Stop, "restricted for security reasons", CONSOLE),
    row(70115, Class::Stop, "account or developer setup does not match", CONSOLE),
    row(70140, Class::Stop, "account or developer setup does not match", CONSOLE),
    row(70145, Class::Stop, "account or developer setup does not match", CONSOLE),
    row(70169, Class::Retry, "internal timeout of the service", RETRIES),
    range(70201, 70203, Class::Retry, "internal error or timeout of the service", RETRIES),
    row(70204, Class::Stop, "account or developer setup does not match", CONSOLE),
    row(70205, Class::Retry, "internal error of the service", RETRIES),
    row(
        70206,
        Class::Malformed,
        "the number of entries in the batch is not allowed",
        "nothing, or set a smaller --chunk: the run finds how many questions per request the service accepts",
    ),
    range(70207, 70208, Class::Retry, "internal error of the service", RETRIES),
    range(70209, 70211, Class::Stop, "account or developer setup does not match", CONSOLE),
    range(70212, 70213, Class::Retry, "internal error of the service", RETRIES),
    row(70214, Class::Renew, "the ticket or login state is invalid", RENEWS),
    row(70221, Class::Renew, "the ticket or login state is invalid", RENEWS),
    row(70222, Class::Retry, "internal error of the service", RETRIES),
    row(70225, Class::Retry, "internal error of the service", RETRIES),
    row(70231, Class::Retry, "internal error of the service", RETRIES),
    row(70236, Class::Renew, "the ticket or login state is invalid", RENEWS),
    row(70308, Class::Retry, "internal error of the service", RETRIES),
    row(70346, Class::Stop, "the ticket check failed; occurs with an invalid UserSig", KEY),
    row(70347, Class::Renew, "the ticket has expired", RENEWS),
    row(70348, Class::Retry, "internal error of the service", RETRIES),
    row(70362, Class::Retry, "internal timeout of the service", RETRIES),
    row(70398, Class::Stop, "the account quota of the package is used up", CONSOLE),
    row(70401, Class::Retry, "internal error of the service", RETRIES),
    row(70402, Class::Malformed, "a parameter is invalid or missing", CONTENT),
    row(70403, Class::Stop, "an app administrator is required", ADMIN),
    row(70500, Class::Retry, "internal error of the service", RETRIES),
    row(71000, Class::Stop, "the package does not allow deleting accounts", CONSOLE),
    row(72001, Class::Stop, "the user status feature is not enabled", CONSOLE),
    row(
        141_000,
        Class::Stop,
        "the app is not a Desk app",
        "correct the SDKAppID: it must be an app with Desk",
    ),
    row(141_002, Class::Retry, "internal error of the service", RETRIES),
    row(141_004, Class::Malformed, "a parameter is invalid", CONTENT),
];
