//! The functions that recurrent operators apply to their gates.

use super::super::call::Call;

/// A function and its parameters.
#[derive(Clone, Copy)]
pub(super) struct Activation {
    kind: Kind,
    alpha: f64,
    beta: f64,
}

#[derive(Clone, Copy)]
enum Kind {
    Affine,
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    ScaledTanh,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu,
}

/// Those of a node, for each direction after the other.
pub(super) fn of(call: &Call<'_>, directions: usize) -> Result<Vec<Activation>, String> {
    let defaults: &[&str] = match call.op() {
        "LSTM" => &["Sigmoid", "Tanh", "Tanh"],
        "GRU" => &["Sigmoid", "Tanh"],
        _ => &["Tanh"],
    };
    let mut names = call.node.texts("activations");
    if names.is_empty() {
        names = defaults.repeat(directions);
    }
    if names.len() != defaults.len() * directions {
        return Err(format!(
            "its activations {names:?} are not {}",
            defaults.len() * directions
        ));
    }
    // Parameters are listed for those functions only that have some.
    let mut alphas = call.node.floats("activation_alpha").iter();
    let mut betas = call.node.floats("activation_beta").iter();
    let one = |name: &str| {
        let (kind, alpha, beta) = kind(name)?;
        let next = |list: &mut std::slice::Iter<'_, f32>, otherwise: Option<f64>| {
            otherwise.map_or(0.0, |otherwise| {
                list.next().map_or(otherwise, |&x| x.into())
            })
        };
        Ok(Activation {
            kind,
            alpha: next(&mut alphas, alpha),
            beta: next(&mut betas, beta),
        })
    };
    names.into_iter().map(one).collect()
}

/// A function by name, with the defaults of the parameters that it has.
fn kind(name: &str) -> Result<(Kind, Option<f64>, Option<f64>), String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "affine" => (Kind::Affine, Some(1.0), Some(0.0)),
        "elu" => (Kind::Elu, Some(1.0), None),
        "hardsigmoid" => (Kind::HardSigmoid, Some(0.2), Some(0.5)),
        "leakyrelu" => (Kind::LeakyRelu, Some(0.01), None),
        "relu" => (Kind::Relu, None, None),
        "scaledtanh" => (Kind::ScaledTanh, Some(1.0), Some(1.0)),
        "sigmoid" => (Kind::Sigmoid, None, None),
        "softplus" => (Kind::Softplus, None, None),
        "softsign" => (Kind::Softsign, None, None),
        "tanh" => (Kind::Tanh, None, None),
        "thresholdedrelu" => (Kind::ThresholdedRelu, Some(1.0), None),
        _ => return Err(format!("its activation '{name}' is none that ONNX has")),
    })
}

impl Activation {
    pub(super) fn of(self, x: f64) -> f64 {
        let Activation { alpha, beta, .. } = self;
        match self.kind {
            Kind::Affine => alpha * x + beta,
            Kind::Elu if x < 0.0 => alpha * x.exp_m1(),
            Kind::Elu => x,
            Kind::HardSigmoid => (alpha * x + beta).clamp(0.0, 1.0),
            Kind::LeakyRelu if x < 0.0 => alpha * x,
            Kind::LeakyRelu => x,
            Kind::Relu => x.max(0.0),
            Kind::ScaledTanh => alpha * (beta * x).tanh(),
            Kind::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Kind::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Kind::Softsign => x / (1.0 + x.abs()),
            Kind::Tanh => x.tanh(),
            Kind::ThresholdedRelu if x > alpha => x,
            Kind::ThresholdedRelu => 0.0,
        }
    }
}
