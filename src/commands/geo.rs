//! Geo: places on the globe as members of sorted sets. The search for those near a place is in `geo_search`.

use super::zsets::{Adding, add};
use super::{Command, Failure, Outcome, Request, read, write};
use crate::base::long_double::LongDouble;
use crate::protocol::args::Cursor;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, RO, RW, UPDATE};
use crate::protocol::spec::flag::DENYOOM;
use crate::protocol::spec::syntax::{block, double, key, one_of, string, token};
use crate::protocol::spec::{Argument, Group, KeySpec};
use crate::store::{Transaction, View};
use crate::types::geo::Place;
use crate::types::zset;

/// A unit of length, as words.
pub const UNIT: Argument =
    one_of("unit", &[token("m", "M"), token("km", "KM"), token("ft", "FT"), token("mi", "MI")]);

/// The declarations.
pub const COMMANDS: &[Command] = &[
    write("geoadd", geoadd)
        .arity(-5)
        .flags(DENYOOM)
        .group(Group::Geo)
        .keys(&[KeySpec::one(1, RW.and(UPDATE))])
        .since("3.2.0")
        .complexity("O(log N) for each member.")
        .summary("Adds members to a sorted set by their places on the globe.")
        .history(&[("6.2.0", "The options `CH`, `NX` and `XX`.")])
        .arguments(&[
            key("key", 0),
            one_of("condition", &[token("nx", "NX"), token("xx", "XX")]).optional().since("6.2.0"),
            token("change", "CH").optional().since("6.2.0"),
            block("longitude_latitude_member", &[double("longitude"), double("latitude"), string("member")])
                .multiple(),
        ]),
    read("geopos", geopos)
        .arity(-2)
        .group(Group::Geo)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("3.2.0")
        .complexity("O(M), M members named.")
        .summary("Returns the places of members.")
        .arguments(&[key("key", 0), string("member").multiple()]),
    read("geodist", geodist)
        .arity(-4)
        .group(Group::Geo)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("3.2.0")
        .complexity("O(1)")
        .summary("Returns the distance between two members.")
        .arguments(&[key("key", 0), string("member1"), string("member2"), UNIT.optional()]),
    read("geohash", geohash)
        .arity(-2)
        .group(Group::Geo)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("3.2.0")
        .complexity("O(M), M members named.")
        .summary("Returns the places of members as geohash texts.")
        .arguments(&[key("key", 0), string("member").multiple()]),
];

fn geoadd(request: &Request, transaction: &mut Transaction) -> Outcome {
    let mut words = request.args.cursor(2);
    let mut adding = Adding::default();
    loop {
        if words.eat("NX") {
            adding.only_new = true;
        } else if words.eat("XX") {
            adding.only_old = true;
        } else if words.eat("CH") {
            adding.counts_changed = true;
        } else {
            break;
        }
    }
    let is_sound = !words.is_done() && words.left().is_multiple_of(3);
    if !is_sound || (adding.only_new && adding.only_old) {
        return Err(error::SYNTAX.into());
    }
    let mut members = Vec::with_capacity(words.left() / 3);
    while !words.is_done() {
        members.push((place(&mut words)?.score(), words.word()?));
    }
    add(request, transaction, adding, &members)
}

/// Takes a longitude and a latitude.
pub fn place(words: &mut Cursor) -> Result<Place, ErrorReply> {
    let place = Place { longitude: words.double()?, latitude: words.double()? };
    if place.is_sound() {
        return Ok(place);
    }
    let Place { longitude, latitude } = place;
    Err(ErrorReply::new(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

/// Takes a unit of length, in meters.
pub fn unit(words: &mut Cursor) -> Result<f64, ErrorReply> {
    match () {
        () if words.eat("m") => Ok(1.0),
        () if words.eat("km") => Ok(1000.0),
        () if words.eat("ft") => Ok(0.3048),
        () if words.eat("mi") => Ok(1609.34),
        () => Err(ErrorReply::fixed("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

/// The scores of the members from the second word on.
fn scores(request: &Request, view: &mut View) -> Result<Vec<Option<f64>>, Failure> {
    let key = request.key(1);
    let entry = zset::find(view, &key)?;
    let mut scores = Vec::with_capacity(request.args.len() - 2);
    for member in request.args.from(2) {
        scores.push(match &entry {
            Some(entry) => zset::score(view, &key, entry, member)?,
            None => None,
        });
    }
    Ok(scores)
}

/// A place as a reply.
pub fn coordinates(place: Place) -> Reply {
    let text = |degrees: f64| {
        let text = LongDouble::from_f64(degrees).map(LongDouble::format);
        Reply::Decimal(text.expect("a place's coordinates are numbers"))
    };
    Reply::Array(vec![text(place.longitude), text(place.latitude)])
}

/// A distance as a reply.
pub fn meters(distance: f64) -> Reply {
    Reply::Bulk(format!("{distance:.4}").into_bytes())
}

fn geopos(request: &Request, view: &mut View) -> Outcome {
    let places = scores(request, view)?.into_iter();
    let shown =
        |score: Option<f64>| score.map_or(Reply::NullArray, |score| coordinates(Place::of_score(score)));
    Ok(Reply::Array(places.map(shown).collect()))
}

fn geohash(request: &Request, view: &mut View) -> Outcome {
    let places = scores(request, view)?.into_iter();
    let shown = |score: Option<f64>| {
        score.map_or(Reply::Null, |score| Reply::Bulk(Place::of_score(score).text().into_bytes()))
    };
    Ok(Reply::Array(places.map(shown).collect()))
}

fn geodist(request: &Request, view: &mut View) -> Outcome {
    let mut words = request.args.cursor(4);
    let meters_each = match words.left() {
        0 => 1.0,
        1 => unit(&mut words)?,
        _ => return Err(error::SYNTAX.into()),
    };
    let key = request.key(1);
    let Some(entry) = zset::find(view, &key)? else { return Ok(Reply::Null) };
    let mut places = [None; 2];
    for (place, at) in places.iter_mut().zip(2..) {
        *place = zset::score(view, &key, &entry, request.args.at(at))?.map(Place::of_score);
    }
    let [Some(from), Some(to)] = places else { return Ok(Reply::Null) };
    Ok(meters(from.distance(to) / meters_each))
}
