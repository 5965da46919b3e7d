//! PNG from SVG, with a font of our own: nodes of a cluster have none.

use std::sync::{Arc, LazyLock};

use resvg::usvg::fontdb::Database;
use resvg::{tiny_skia, usvg};

const FONTS: [&[u8]; 2] = [
    include_bytes!("../../../vendor/dejavu/DejaVuSans-latin.ttf"),
    include_bytes!("../../../vendor/dejavu/DejaVuSans-Bold-latin.ttf"),
];

static FONT: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    FONTS.iter().for_each(|font| fonts.load_font_data(font.to_vec()));
    Arc::new(fonts)
});

/// Pixels for a unit of the SVG.
const ZOOM: f32 = 2.0;

/// The picture of an SVG document.
///
/// # Errors
/// The document is not SVG.
pub fn png(svg: &str) -> std::io::Result<Vec<u8>> {
    let options = usvg::Options {
        font_family: "DejaVu Sans".to_owned(),
        fontdb: Arc::clone(&FONT),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options).map_err(std::io::Error::other)?;
    let size = tree.size().to_int_size().scale_by(ZOOM);
    let size = size.ok_or_else(|| std::io::Error::other("a picture without size"))?;
    let pixels = tiny_skia::Pixmap::new(size.width(), size.height());
    let mut pixels = pixels.ok_or_else(|| std::io::Error::other("a picture without size"))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(ZOOM, ZOOM), &mut pixels.as_mut());
    encoded(&pixels).map_err(std::io::Error::other)
}

/// An opaque picture of few colours. Filters help photographs; here they only cost time and room.
fn encoded(pixels: &tiny_skia::Pixmap) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, pixels.width(), pixels.height());
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header()?.write_image_data(pixels.data())?;
    Ok(file)
}
