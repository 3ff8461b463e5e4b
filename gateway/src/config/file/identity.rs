//! `[jwt]`: callers that show a token in place of a key.

use super::super::error::{Located, Place};
use super::table::Table;

/// `[jwt]`
#[derive(Debug)]
pub struct Jwt {
    /// Where it stands.
    pub place: Place,
    /// Discovery and keys from here.
    pub issuer: Option<Located<String>>,
    /// Keys from here: a file or a URL.
    pub jwks: Option<Located<String>>,
    /// Whom a token must be meant for.
    pub audience: Option<Vec<Located<String>>>,
    /// CEL: the subscription that a token stands for. `None`: a token is asked for beside the key.
    pub subscription: Option<Located<String>>,
    /// Claims that a token must have, and what each must hold.
    pub required_claims: Vec<(Located<String>, Vec<Located<String>>)>,
    /// Path of the authorities to trust.
    pub ca: Option<Located<String>>,
}

/// Reads `[jwt]`.
pub fn jwt(table: Table<'_, '_>) -> Jwt {
    let (issuer, jwks) = (table.field("issuer"), table.field("jwks"));
    if !issuer.is_there() && !jwks.is_there() {
        table.missing(
            "issuer",
            "the URL of the issuer, or jwks: the keys as a file or URL",
        );
    }
    let audience = table.field("audience");
    let audience = audience.required("whom a token must be meant for, such as \"api://tollgate\"");
    let claims = table.field("required-claims").named_fields().into_iter();
    let claims = claims.map(|(name, values)| (name, values.texts().unwrap_or_default()));
    let jwt = Jwt {
        place: table.place().clone(),
        issuer: issuer.text(),
        jwks: jwks.text(),
        audience: audience.texts(),
        subscription: table.field("subscription").text(),
        required_claims: claims.collect(),
        ca: table.field("ca").text(),
    };
    table.finish();
    jwt
}
