//! Hiding what must not be shown: passwords in URLs, whether or not they parse.

/// What stands in the place of a secret.
pub(crate) const MASK: &str = "****";

const SECRET_PARAMETERS: [&str; 3] = ["password", "secret", "token"];

/// `text` with the password of a URL, and the values of telling query parameters, masked. Works on
/// text that is not quite a URL too, because bad values are reported.
pub(crate) fn url(text: &str) -> String {
    let (scheme, rest) = match text.find("://") {
        Some(at) => text.split_at(at + 3),
        None => ("", text),
    };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A password may hold any of these unescaped when its owner was careless: then the last `@` of
    // the text counts, which hides too much rather than too little.
    let credentials_end = rest[..authority_end]
        .rfind('@')
        .or_else(|| rest[..rest.find('?').unwrap_or(rest.len())].rfind('@'));
    let mut shown = scheme.to_owned();
    let tail = match credentials_end {
        Some(at) => {
            match rest[..at].find(':') {
                Some(colon) => {
                    shown.push_str(&rest[..=colon]);
                    shown.push_str(MASK);
                }
                None => shown.push_str(&rest[..at]),
            }
            &rest[at..]
        }
        None => rest,
    };
    match tail.split_once('?') {
        Some((path, query)) => {
            shown.push_str(path);
            for (index, pair) in query.split('&').enumerate() {
                shown.push(if index == 0 { '?' } else { '&' });
                match pair.split_once('=') {
                    Some((key, _)) if is_secret(key) => {
                        shown.push_str(key);
                        shown.push('=');
                        shown.push_str(MASK);
                    }
                    _ => shown.push_str(pair),
                }
            }
        }
        None => shown.push_str(tail),
    }
    shown
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_PARAMETERS.iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn passwords_are_hidden_and_the_rest_stays() {
        for (given, shown) in [
            ("postgres://u:p@h/db", "postgres://u:****@h/db"),
            (
                "postgres://u:p%40x@h:5432/db?sslmode=off",
                "postgres://u:****@h:5432/db?sslmode=off",
            ),
            ("postgres://u:a/b@h/db", "postgres://u:****@h/db"),
            ("postgres://u:a@b@h/db", "postgres://u:****@h/db"),
            ("postgres://u@h/db", "postgres://u@h/db"),
            (
                "postgres://h/db?password=p&x=1",
                "postgres://h/db?password=****&x=1",
            ),
            ("sqlite3://./data/fn.db", "sqlite3://./data/fn.db"),
            ("u:p@h", "u:****@h"),
            ("", ""),
        ] {
            assert_eq!(url(given), shown, "{given}");
        }
    }
}
