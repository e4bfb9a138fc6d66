//! Tokens made, bent and checked.

use super::*;
use crate::authn::service_account::tests::{Objects, objects};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn issuer() -> TokenIssuer {
    TokenIssuer::new(SigningKey::generate(), ISSUER)
}

pub(crate) fn authenticator() -> TokenAuthenticator {
    issuer().authenticator(Arc::new(Objects::default()))
}

fn claims() -> Claims {
    let account = Reference { name: "builder".to_owned(), uid: "sa-1".to_owned() };
    Claims {
        aud: vec![ISSUER.to_owned()],
        exp: NOW + 3600,
        iat: NOW,
        nbf: NOW,
        jti: "id-1".to_owned(),
        sub: "system:serviceaccount:ci:builder".to_owned(),
        kubernetes: Bound { namespace: "ci".to_owned(), serviceaccount: account, ..Bound::default() },
        ..Claims::default()
    }
}

#[test]
fn a_token_gives_its_service_account() {
    let issuer = issuer();
    let (user, audiences) = issuer
        .authenticator(Arc::new(objects()))
        .authenticate_at(&issuer.sign(claims()), None, NOW)
        .expect("the token is good");
    assert_eq!(user.name, "system:serviceaccount:ci:builder");
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"]);
    assert_eq!(user.extra[super::super::CREDENTIAL_ID], ["JTI=id-1"]);
    assert_eq!(audiences, [ISSUER]);
}

#[test]
fn time_is_checked_with_a_minute_of_leeway() {
    let issuer = issuer();
    let authenticator = issuer.authenticator(Arc::new(objects()));
    let token = issuer.sign(claims());
    let at = |now| authenticator.authenticate_at(&token, None, now).map(|_| ());
    assert_eq!(at(NOW + 3600 + 60), Ok(()));
    assert_eq!(at(NOW + 3600 + 61), Err(TokenError::Expired));
    assert_eq!(at(NOW - 61), Err(TokenError::NotYet));
}

#[test]
fn forged_tokens_are_refused() {
    let (ours, other) = (issuer(), issuer());
    let authenticator = ours.authenticator(Arc::new(objects()));
    let refused = |token: &str| authenticator.authenticate_at(token, None, NOW).map(|_| ()).unwrap_err();
    assert_eq!(refused(&other.sign(claims())), TokenError::Signature);

    let token = ours.sign(claims());
    let parts: Vec<&str> = token.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    assert_eq!(refused(&format!("{none}.{}.", parts[1])), TokenError::Signature);
    let hmac = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    assert_eq!(refused(&format!("{hmac}.{}.{}", parts[1], parts[2])), TokenError::Signature);
    let admin = Claims { iss: ISSUER.to_owned(), sub: "root".to_owned(), ..claims() };
    let admin = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&admin).unwrap());
    assert_eq!(refused(&format!("{}.{admin}.{}", parts[0], parts[2])), TokenError::Signature);
    for rubbish in ["", ".", "..", "a.b.c", "....", &token[..token.len() - 2], &token[1..]] {
        assert!(matches!(refused(rubbish), TokenError::Foreign | TokenError::Signature), "{rubbish}");
    }
    let foreign = TokenIssuer::new(SigningKey::generate(), "https://elsewhere");
    assert_eq!(refused(&foreign.sign(claims())), TokenError::Foreign);
}

#[test]
fn audiences_must_meet() {
    let issuer = issuer();
    let authenticator = issuer.authenticator(Arc::new(objects()));
    let vault = issuer.sign(Claims { aud: vec!["vault".to_owned()], ..claims() });
    assert!(matches!(authenticator.authenticate_at(&vault, None, NOW), Err(TokenError::Audience(..))));
    let wanted = ["vault".to_owned(), "other".to_owned()];
    assert_eq!(authenticator.authenticate_at(&vault, Some(&wanted), NOW).unwrap().1, ["vault"]);
}

#[test]
fn the_key_set_names_the_key_that_signs() {
    let issuer = issuer();
    let set: serde_json::Value = serde_json::from_str(&issuer.key_set()).unwrap();
    let header = issuer.sign(claims());
    let header = URL_SAFE_NO_PAD.decode(header.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(set["keys"][0]["kid"], header["kid"]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn a_token_that_was_changed_anywhere_is_refused(place: proptest::sample::Index, put in "[A-Za-z0-9_.=-]|.") {
        let issuer = issuer();
        let authenticator = issuer.authenticator(Arc::new(objects()));
        let token = issuer.sign(claims());
        let at = place.index(token.len());
        let changed = format!("{}{put}{}", &token[..at], &token[at + 1..]);
        if changed != token {
            proptest::prop_assert!(authenticator.authenticate_at(&changed, None, NOW).is_err(), "{changed}");
        }
    }

    #[test]
    fn text_of_any_form_is_no_token(text in ".*|[A-Za-z0-9_-]{0,40}[.][A-Za-z0-9_-]{0,40}[.][A-Za-z0-9_-]{0,90}") {
        let refused = authenticator().authenticate_at(&text, None, NOW).map(|_| ());
        proptest::prop_assert!(refused.is_err());
    }
}
