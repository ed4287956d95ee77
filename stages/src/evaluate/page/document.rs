//! The page around its sections: style and script are within it, and its policy forbids a browser to load anything else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gradus_plot::Figure;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use pulldown_cmark::{Event, Options, Parser, html::push_html};

use crate::error::StageError;

/// Nothing from elsewhere, be it named in what a policy wrote.
const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// A part of the page with an entry in its contents.
pub(crate) struct Section {
    pub(super) title: String,
    pub(super) content: Markup,
}

/// The whole page.
pub(crate) fn page(title: &str, about: &str, sections: &[Section]) -> String {
    let anchor = |index: usize| format!("section-{}", index + 1);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                header {
                    h1 { (title) }
                    (markdown(about))
                    nav { @for (index, section) in sections.iter().enumerate() { a href={ "#" (anchor(index)) } { (section.title) } } }
                }
                main {
                    @for (index, section) in sections.iter().enumerate() {
                        section id=(anchor(index)) { h2 { (section.title) } (section.content) }
                    }
                }
                script { (PreEscaped(include_str!("script.js"))) }
            }
        }
    };
    page.into_string()
}

/// Markdown with tables. HTML within it is shown as the text that it is.
pub(super) fn markdown(text: &str) -> Markup {
    let plain = |event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        other => other,
    };
    let mut written = String::new();
    push_html(&mut written, Parser::new_ext(text, Options::ENABLE_TABLES).map(plain));
    html! { div.markdown { (PreEscaped(written)) } }
}

/// A figure, drawn.
pub(super) fn drawn(figure: &Figure) -> Result<Markup, StageError> {
    let svg = figure.svg().map_err(|error| StageError::refused(error.to_string()))?;
    Ok(image(svg.as_bytes(), &figure.title))
}

/// An SVG as a picture: what it holds cannot touch the page.
pub(super) fn image(svg: &[u8], title: &str) -> Markup {
    let data = format!("data:image/svg+xml;base64,{}", STANDARD.encode(svg));
    html! { figure { img src=(data) alt=(title); } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_its_sections_and_what_is_text_stays_text() {
        let content = markdown("A | B\n-- | --\n1 | <script>alert(1)</script>\n");
        let sections = [Section { title: "<b>Policies</b>".to_owned(), content }];
        let page = page("A & B", "Ran *well*.", &sections);
        assert!(page.contains("<title>A &amp; B</title>") && page.contains("<em>well</em>"));
        assert!(page.contains(r##"<a href="#section-1">&lt;b&gt;Policies&lt;/b&gt;</a>"##));
        assert!(page.contains("<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>"));
        assert_eq!(page.matches("<script").count(), 1, "the page's own");
    }

    #[test]
    fn it_loads_nothing() {
        let page = page("Title", "![](picture.png)", &[]);
        assert!(page.contains("default-src 'none'"));
        let own = [include_str!("style.css"), include_str!("script.js")].concat();
        for word in ["http:", "https:", "url(", "@import", "fetch", "XMLHttpRequest"] {
            assert!(!own.contains(word), "{word}");
        }
    }
}
