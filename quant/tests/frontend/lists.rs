//! Lists of a model that are nothing on the wire and much in memory: each is counted, whatever it is
//! a list of.

use crate::limits::{holds, load, model, nested, with};
use dual16_quant::{
    InputLimits,
    limits::InputLimit,
    onnx::{
        FunctionProto, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto,
        TensorProto, f32_initializer, f32_value,
    },
};
use ndarray::arr1;
use prost::Message as _;

/// A model in which `change` has put `count` entries into one list.
fn with_list(change: &dyn Fn(&mut ModelProto, usize), count: usize) -> Vec<u8> {
    let mut proto = ModelProto::decode(model(nested(1)).as_slice()).unwrap();
    change(&mut proto, count);
    proto.encode_to_vec()
}

#[test]
fn lists_of_any_kind_are_no_way_around_the_nodes() {
    type Change<'a> = &'a dyn Fn(&mut ModelProto, usize);
    fn graph(model: &mut ModelProto) -> &mut GraphProto {
        model.graph.as_mut().unwrap()
    }
    let note = StringStringEntryProto::default();
    let cases: [(&str, Change<'_>); 8] = [
        ("notes of a model", &|model, n| {
            model.metadata_props = vec![note.clone(); n];
        }),
        ("operator sets", &|model, n| {
            let sets = vec![OperatorSetIdProto::default(); n];
            model.opset_import.extend(sets);
        }),
        ("functions", &|model, n| {
            model.functions = vec![FunctionProto::default(); n];
        }),
        ("notes of a graph", &|model, n| {
            graph(model).metadata_props = vec![note.clone(); n];
        }),
        ("what a node reads and makes", &|model, n| {
            graph(model).node[0].input.resize(n / 2 + 1, String::new());
            graph(model).node[0]
                .output
                .resize(n - n / 2 + 1, String::new());
        }),
        ("notes of a node", &|model, n| {
            graph(model).node[0].metadata_props = vec![note.clone(); n];
        }),
        ("texts of an attribute", &|model, n| {
            graph(model).node[1].attribute[0].strings = vec![Vec::new().into(); n];
        }),
        ("notes of a value", &|model, n| {
            graph(model).input[0].metadata_props = vec![note.clone(); n];
        }),
    ];
    for (list, change) in cases {
        let few = load(&with_list(change, 0), &with(InputLimit::ModelNodes, 3));
        assert!(few.is_ok(), "{list}: {few:?}");
        // One more than three nodes may have; the others of this model do not make five of them.
        let bytes = with_list(change, 3 * 64 + 1);
        let says = "names, notes and dimensions, as many as 4 nodes may have";
        holds(InputLimit::ModelNodes, 4, &[says], |limits| {
            load(&bytes, limits)
        });
    }
}

#[test]
fn dimensions_and_places_that_no_tensor_has() {
    let tensor = |change: &dyn Fn(&mut TensorProto)| {
        let mut graph = nested(1);
        let mut tensor = f32_initializer("w", arr1(&[1.0_f32]).into_dyn().view());
        change(&mut tensor);
        graph.initializer = vec![tensor];
        load(&model(graph), &InputLimits::NONE)
    };
    tensor(&|tensor| tensor.dims = vec![1; 64]).unwrap();
    let refused = tensor(&|tensor| tensor.dims = vec![1; 65]).unwrap_err();
    let says = "m.onnx: tensor 'w' has 65 dimensions; at most 64 may be";
    assert_eq!(refused.to_string(), says);
    assert_eq!(refused.code(), "LIMIT_EXCEEDED");
    assert!(!refused.retryable());

    let entries = |count| vec![StringStringEntryProto::default(); count];
    tensor(&|tensor| tensor.external_data = entries(8)).unwrap();
    let refused = tensor(&|tensor| tensor.external_data = entries(9)).unwrap_err();
    let says = "m.onnx: tensor 'w' has 9 entries of external data; at most 8 may be";
    assert_eq!(refused.to_string(), says);

    // One that has no name is told by its node, and packed dimensions are dimensions.
    let packed = [&[0x0a, 65][..], &[1; 65]].concat();
    let proto = TensorProto::decode(packed.as_slice()).unwrap();
    assert_eq!(proto.dims.len(), 65);
    let attribute = [&[0x2a, 67][..], &packed].concat();
    let node = [&[0x1a, 1, b'c', 0x2a, 69][..], &attribute].concat();
    let graph = [&[0x0a, 74][..], &node].concat();
    let refused = load(&[&[0x3a, 76][..], &graph].concat(), &InputLimits::NONE).unwrap_err();
    let says = "m.onnx: a tensor of node 'c' has 65 dimensions; at most 64 may be";
    assert_eq!(refused.to_string(), says);

    let value = |dims: &[Option<usize>]| {
        let mut graph = nested(1);
        graph.input[0] = f32_value("x", Some(dims));
        load(&model(graph), &InputLimits::NONE)
    };
    value(&[None; 64]).unwrap();
    let refused = value(&[None; 65]).unwrap_err();
    let says = "m.onnx: value 'x' has 65 dimensions; at most 64 may be";
    assert_eq!(refused.to_string(), says);
}
