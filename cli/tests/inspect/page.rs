//! The page in a real browser, driven through ChromeDriver.

use crate::conversation::Conversation;
use crate::{SERVER, run};
use fantoccini::actions::{InputSource, KeyAction, KeyActions, MouseActions, PointerAction, WheelAction, WheelActions};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Where the first line begins in the canvas, and the height of a line, in CSS pixels; see `map.js`.
const MARGIN: f64 = 132.0;
const PITCH: f64 = 34.0;

/// A browser with the page of the sample open.
struct Page {
    client: Client,
    /// Ends the driver with the test.
    _driver: Conversation,
}

impl Page {
    async fn open(is_dark: bool) -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = folder.join(format!("map-{}-{is_dark}.html", std::process::id()));
        let output = run(&["map", SERVER, "--html", file.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");

        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("chromedriver cannot be started; is Debian's package chromium-driver installed?");
        let log = child.stdout.take().unwrap();
        let mut driver = Conversation::with(child, log);
        driver.wait_for("successfully on port ", 1);
        driver.wait_for(".\n", 1);
        let (_, port) = driver.text.split_once("successfully on port ").unwrap();
        let port: u16 = port.split('.').next().unwrap().parse().unwrap();

        let mut arguments =
            vec!["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000"];
        if is_dark {
            arguments.push("--force-dark-mode");
        }
        let options = json!({"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}});
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(options.as_object().unwrap().clone())
            .connect(&format!("http://localhost:{port}"))
            .await
            .expect("chromium starts");
        client.goto(&format!("file://{}", file.display())).await.unwrap();
        Self { client, _driver: driver }
    }

    async fn text(&self, selector: &str) -> String {
        self.client.find(Locator::Css(selector)).await.unwrap().text().await.unwrap()
    }

    async fn click(&self, selector: &str) {
        self.client.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
    }

    /// A point of the canvas in the window: a place on a line, from 0 to 1, and the line's number.
    async fn point(&self, along: f64, line: f64) -> (f64, f64) {
        let map = self.client.find(Locator::Css("#map")).await.unwrap();
        let (x, y, width, _) = map.rectangle().await.unwrap();
        (x + MARGIN + (width - MARGIN) * along, y + (line + 0.5) * PITCH)
    }

    async fn hover(&self, along: f64, line: f64) {
        let (x, y) = self.point(along, line).await;
        let to = MouseActions::new("mouse".to_owned()).then(PointerAction::MoveTo { duration: None, x, y });
        self.client.perform_actions(to).await.unwrap();
    }

    async fn wheel(&self, along: f64, line: f64, delta_y: i64) {
        let (x, y) = self.point(along, line).await;
        let scroll = WheelAction::Scroll { duration: None, x: x as i64, y: y as i64, delta_x: 0, delta_y };
        self.client.perform_actions(WheelActions::new("wheel".to_owned()).then(scroll)).await.unwrap();
    }

    async fn press(&self, key: char) {
        let keys = KeyActions::new("keys".to_owned());
        let keys = keys.then(KeyAction::Down { value: key }).then(KeyAction::Up { value: key });
        self.client.perform_actions(keys).await.unwrap();
    }

    /// The colour of the canvas at a place.
    async fn colour(&self, along: f64, line: f64) -> Vec<u64> {
        let script = "const map = document.getElementById('map'), dots = map.width / map.clientWidth;\
             const x = (arguments[0] + (map.clientWidth - arguments[0]) * arguments[1]) * dots;\
             const y = (arguments[2] + 0.5) * arguments[3] * dots;\
             return [...map.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3)];";
        let colour =
            self.client.execute(script, vec![json!(MARGIN), json!(along), json!(line), json!(PITCH)]).await.unwrap();
        serde_json::from_value(colour).unwrap()
    }
}

/// Runs a story in a browser.
fn with_page<Story: Future<Output = ()>>(is_dark: bool, story: impl FnOnce(Page) -> Story) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { story(Page::open(is_dark).await).await });
}

#[test]
#[ignore = "needs Debian's packages chromium and chromium-driver; .ci/run has them"]
fn what_lies_under_the_pointer_is_told() {
    with_page(false, async |page: Page| {
        assert_eq!(page.client.title().await.unwrap(), "Heap of shop-server (process 4711)");
        assert!(page.text("#panel").await.contains("Point at the map"));
        // Slices 0 and 1 of the first segment: each is a 64th of the line.
        page.hover(0.5 / 64.0, 0.0).await;
        assert!(page.text("#panel").await.contains("the segment's tables"));
        page.hover(1.5 / 64.0, 0.0).await;
        let panel = page.text("#panel").await;
        assert!(panel.contains("40 of 585 (7 %)") && panel.contains("cache 2, thread 4713"), "{panel}");
        page.hover(0.2, 6.0).await;
        assert!(page.text("#panel").await.contains("a large mapping, free, kept for reuse"));
        page.client.close().await.unwrap();
    });
}

#[test]
#[ignore = "needs Debian's packages chromium and chromium-driver; .ci/run has them"]
fn the_wheel_the_keys_and_the_buttons_zoom_around_what_is_looked_at() {
    with_page(false, async |page: Page| {
        assert_eq!(page.text("#zoom").await, "1×");
        page.hover(1.5 / 64.0, 0.0).await;
        let slab = page.text("#panel dd:nth-of-type(2)").await;
        page.wheel(1.5 / 64.0, 0.0, -600).await;
        assert_eq!(page.text("#zoom").await, "7.4×", "e to the 600/300");
        page.hover(1.5 / 64.0, 0.0).await;
        assert_eq!(page.text("#panel dd:nth-of-type(2)").await, slab, "the place under the pointer stays where it is");
        page.click("#whole").await;
        assert_eq!(page.text("#zoom").await, "1×");
        page.click("#in").await;
        assert_eq!(page.text("#zoom").await, "2×");
        // The keys belong to the map once it has the focus.
        page.client.execute("document.getElementById('map').focus()", vec![]).await.unwrap();
        page.press('-').await;
        page.press('-').await;
        assert_eq!(page.text("#zoom").await, "1×");
        page.press(']').await;
        let next = page.text("#panel").await;
        page.press('[').await;
        assert_ne!(page.text("#panel").await, next);
        page.client.close().await.unwrap();
    });
}

#[test]
#[ignore = "needs Debian's packages chromium and chromium-driver; .ci/run has them"]
fn colours_follow_the_choice_and_a_class_can_be_shown_alone() {
    with_page(false, async |page: Page| {
        let slab = 1.5 / 64.0;
        let by_occupancy = page.colour(slab, 0.0).await;
        assert!(by_occupancy[0] > by_occupancy[2] + 80, "a slab of which 7 % is in use is yellow: {by_occupancy:?}");
        for by in ["class", "owner", "age"] {
            page.client
                .execute("document.querySelector(`input[value=${arguments[0]}]`).click()", vec![json!(by)])
                .await
                .unwrap();
            assert_ne!(page.colour(slab, 0.0).await, by_occupancy, "{by}");
        }
        assert!(page.text("#legend").await.contains("free for 0.1 s"));
        page.client.execute("document.querySelector('input[value=occupancy]').click()", vec![]).await.unwrap();
        assert!(page.text("#classes tbody tr:first-child").await.starts_with("112 B"));
        let large = page.colour(0.5, 3.0).await;
        page.click("#classes tbody tr:first-child").await;
        assert_eq!(page.colour(slab, 0.0).await, by_occupancy, "the class that was chosen");
        assert_ne!(page.colour(0.5, 3.0).await, large, "all others are faded");
        page.click("#classes th:first-child button").await;
        assert!(page.text("#classes tbody tr:first-child").await.starts_with("8192 B"), "sorted by size, falling");
        page.client.close().await.unwrap();
    });
}

#[test]
#[ignore = "needs Debian's packages chromium and chromium-driver; .ci/run has them"]
fn the_page_is_legible_in_the_dark_and_asks_for_nothing() {
    with_page(true, async |page: Page| {
        let script = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor];";
        let colours = page.client.execute(script, vec![]).await.unwrap();
        assert_eq!(colours, json!(["rgb(219, 227, 232)", "rgb(20, 25, 29)"]));
        assert_eq!(page.colour(0.75, 4.0).await, [20, 25, 29], "the map's own ground is dark, too");
        let asked =
            page.client.execute("return performance.getEntriesByType('resource').length", vec![]).await.unwrap();
        assert_eq!(asked, json!(0));
        page.client.close().await.unwrap();
    });
}
