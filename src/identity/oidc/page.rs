//! The pages that a login may end with. They say what a person can do, and nothing of the inside.

use super::return_to::ReturnTo;
use bytes::Bytes;

/// A page that says that a login did not work, with a link for another attempt.
pub fn failed(sentence: &str, again: &ReturnTo) -> Bytes {
    let link = escape(again.as_str());
    page("Login did not work", &format!("<p>{}</p><p><a href=\"{link}\">Try again</a></p>", escape(sentence)))
}

/// A page that says where to log in.
pub fn elsewhere(address: &str) -> Bytes {
    let address = escape(address);
    page("Not here", &format!("<p>Please go to <a href=\"{address}\">{address}</a> to log in.</p>"))
}

/// A page that asks whether to log out: another site sent the browser here.
pub fn ask_for_logout(path: &str) -> Bytes {
    let form = format!(
        "<p>Do you want to log out?</p><form method=\"post\" action=\"{}\"><button>Log out</button></form>",
        escape(path)
    );
    page("Log out", &form)
}

fn page(title: &str, body: &str) -> Bytes {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title></head>\
         <body><h1>{title}</h1>{body}</body></html>\n"
    )
    .into()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_came_in_becomes_markup() {
        let again = ReturnTo::parse("/a?b=\"><script>alert('1')</script>&c").unwrap();
        let page = String::from_utf8(failed("It's <b>", &again).to_vec()).unwrap();
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert!(page.contains("href=\"/a?b=&quot;&gt;&lt;script&gt;"), "{page}");
    }
}
