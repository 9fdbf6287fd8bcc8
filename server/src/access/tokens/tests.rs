//! What a tokens file may say, and what it is told when it says something else.

use super::{super::secret::Token, *};

fn entry(token: &Token, more: &str) -> String {
    format!(
        "[[token]]\nprincipal = \"ci\"\nroles = [\"submit\"]\nsha256 = \"{}\"\n{more}\n",
        token.hash()
    )
}

#[test]
fn a_token_stands_for_its_principal_until_it_expires() {
    let (lasting, ending) = (Token::generate().unwrap(), Token::generate().unwrap());
    let file = entry(&lasting, "") + &entry(&ending, "expires = 1970-01-01T01:00:10+01:00");
    let tokens: Tokens = file.parse().unwrap();
    let (before, after) = (
        Timestamp::from_millis(9_999),
        Timestamp::from_millis(10_000),
    );
    for (token, now) in [(&lasting, before), (&lasting, after), (&ending, before)] {
        let caller = tokens.caller_of_token(token.reveal(), now).unwrap();
        assert_eq!(caller.principal.as_str(), "ci");
        assert_eq!(caller.roles, Roles::of(&[Role::Submit]));
    }
    let expired = tokens.caller_of_token(ending.reveal(), after);
    assert_eq!(expired, Err(Denied::ExpiredToken));
    for unknown in ["", "dual16_", &lasting.hash().to_string()] {
        let refused = tokens.caller_of_token(unknown, before);
        assert_eq!(refused, Err(Denied::UnknownToken));
    }
}

#[test]
fn a_certificate_stands_for_the_principal_of_one_of_its_names() {
    let file = "[[certificate]]\nprincipal = \"w\"\nroles = [\"worker\"]\nname = \"w.example\"\n";
    let tokens: Tokens = file.parse().unwrap();
    let caller = tokens.caller_of_certificate(&["other".into(), "w.example".into()]);
    assert_eq!(caller.unwrap().principal.as_str(), "w");
    assert!(tokens.caller_of_certificate(&["other".into()]).is_none());
    assert!(tokens.caller_of_certificate(&[]).is_none());
}

#[test]
fn errors_name_the_entry_and_the_field_and_never_a_token() {
    let token = Token::generate().unwrap();
    let good = entry(&token, "");
    let secret = token.reveal();
    let cases = [
        (String::new(), "neither"),
        ("token = 3".into(), "line 1"),
        (
            good.clone() + "[[tokens]]\n",
            "line 6: unknown field, expected `token` or `certificate`",
        ),
        (format!("{good}{secret} = 1\n"), "line 6: unknown field"),
        (
            good.replace("[\"submit\"]", &format!("\"{secret}\"")),
            "line 3: invalid type, expected a sequence",
        ),
        (
            good.replace("submit", secret),
            "line 3: unknown variant, expected one of `submit`",
        ),
        (
            entry(&token, &format!("expires = \"{secret}\"")),
            "line 5: invalid type, expected",
        ),
        (good.replace("\"ci\"", secret), "line 2"),
        (good.replace("\"ci\"", &format!("\"{secret}")), "line 2"),
        (
            good.replace("\"ci\"", &format!("\"{secret}\"")),
            "token 1: principal",
        ),
        (good.clone() + &good, "token 2: sha256"),
        (
            good.replace(&token.hash().to_string(), secret),
            "token 1: sha256",
        ),
        (good.replace("\"ci\"", "\"c i\""), "token 1: principal"),
        (
            good.replace("\"ci\"", "\"anonymous\""),
            "token 1: principal",
        ),
        (good.replace("[\"submit\"]", "[]"), "token 1: roles"),
        (good.replace("submit", "root"), "line 3"),
        (entry(&token, "expires = 2027-01-31"), "token 1: expires"),
        (
            entry(&token, "expires = 2027-01-31T00:00:00"),
            "token 1: expires",
        ),
        (
            "[[certificate]]\nprincipal = \"w\"\nroles = [\"worker\"]\nname = \"*.example\"".into(),
            "certificate 1: name",
        ),
    ];
    for (file, expected) in cases {
        let error = file.parse::<Tokens>().unwrap_err().to_string();
        assert!(error.contains(expected), "{file}\n{error}");
        assert!(!error.contains(secret), "{error}");
    }
}
