//! What is said of a layer whose values saturate.

use dual16_nash::ways::Way;

use crate::flow::{LayerMeasured, Notice, WayMeasured};

/// A share of saturated values above which somebody should look at the layer's scales.
const MUCH_CLIPPED: f64 = 0.01;

/// The warning that much of what the layer's way makes saturates.
pub(super) fn clipped(layer: &LayerMeasured) -> Option<Notice> {
    let runs = |way: &&WayMeasured| layer.runs(way);
    let share = layer.ways.iter().find(runs)?.clip_fraction;
    let what = match layer.effective {
        Way::MulSum => "products",
        _ => "outputs",
    };
    (share > MUCH_CLIPPED).then(|| Notice {
        warning: true,
        code: "CLIPPED".to_owned(),
        subject: layer.layer.clone(),
        message: format!(
            "{:.1} % of its {what} saturate as {}: its scale is too small for them; look at its fixed \
             scale and observer",
            share * 100.0,
            layer.effective_name()
        ),
    })
}
