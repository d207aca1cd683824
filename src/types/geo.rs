//! Places on the globe as scores of a sorted set, and the search for those near a place.
//!
//! A place is a cell of a grid of 2^26 by 2^26, whose column and row are interleaved to 52 bits, which a double holds exactly
//! (geohash, G. M. Niemeyer, <https://en.wikipedia.org/wiki/Geohash>; as Redis has it, rows end at the 85th degree). Cells that
//! have their first bits in common are near each other, so an area is a few ranges of scores: the cell around its middle, of about
//! its size, and the eight around that. What is found there is measured one by one.
//!
//! The order in which cells are looked at, and every number, are those of Redis: results without an order, and how many of them
//! `COUNT … ANY` finds, show it.

use super::zset::{self, ScoreRange};
use crate::store::{Entry, Interrupt, Key, View};
use std::f64::consts::PI;
use std::ops::ControlFlow;

/// Meters.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Meters, half around the equator in Mercator's projection.
const MERCATOR_MAX: f64 = 20_037_726.37;
/// The greatest longitude.
pub const LONGITUDE_MAX: f64 = 180.0;
/// The greatest latitude that a place may have.
pub const LATITUDE_MAX: f64 = 85.051_128_78;
/// Bits of a column and of a row.
const STEPS_MAX: u32 = 26;
const EVEN: u64 = 0x5555_5555_5555_5555;
const ODD: u64 = EVEN << 1;

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// East of Greenwich.
    pub longitude: f64,
    /// North of the equator.
    pub latitude: f64,
}

/// What is searched around a place, in meters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A circle with this radius.
    Circle(f64),
    /// A box of this width and height.
    Box(f64, f64),
}

/// A member that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub member: Vec<u8>,
    /// Its score.
    pub score: f64,
    /// Its place.
    pub place: Place,
    /// Meters from the middle of the search.
    pub distance: f64,
}

/// A cell of the grid with so many bits a direction. The latitude's bits are the even ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    bits: u64,
    steps: u32,
}

/// The ends of a cell, in degrees.
#[derive(Clone, Copy, Debug)]
struct Area {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

fn radians(degrees: f64) -> f64 {
    degrees * (PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (PI / 180.0)
}

/// Puts the bits of a number into the even places.
fn spread(number: u32) -> u64 {
    let mut bits = u64::from(number);
    for (shift, mask) in [
        (16, 0x0000_FFFF_0000_FFFF),
        (8, 0x00FF_00FF_00FF_00FF),
        (4, 0x0F0F_0F0F_0F0F_0F0F),
        (2, 0x3333_3333_3333_3333),
        (1, EVEN),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// The even bits as a number.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & EVEN;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0F0F_0F0F_0F0F_0F0F),
        (4, 0x00FF_00FF_00FF_00FF),
        (8, 0x0000_FFFF_0000_FFFF),
        (16, 0x0000_0000_FFFF_FFFF),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

impl Place {
    /// Whether there is such a place.
    pub fn is_sound(self) -> bool {
        (-LONGITUDE_MAX..=LONGITUDE_MAX).contains(&self.longitude)
            && (-LATITUDE_MAX..=LATITUDE_MAX).contains(&self.latitude)
    }

    /// The cell it is in, of a grid that ends at this latitude.
    fn cell(self, latitude_max: f64, steps: u32) -> Cell {
        let scale = (1_u64 << steps) as f64;
        let row = (self.latitude + latitude_max) / (2.0 * latitude_max) * scale;
        let column = (self.longitude + LONGITUDE_MAX) / (2.0 * LONGITUDE_MAX) * scale;
        Cell { bits: spread(row as u64 as u32) | spread(column as u64 as u32) << 1, steps }
    }

    /// The score of a member at this place.
    pub fn score(self) -> f64 {
        self.cell(LATITUDE_MAX, STEPS_MAX).bits as f64
    }

    /// The middle of the cell with this score.
    pub fn of_score(score: f64) -> Place {
        const BITS_63: f64 = 9_223_372_036_854_775_808.0;
        // A score need not be a cell's. Redis leaves it to the processor what becomes of those that have no integer of 64 bits.
        let bits = if score < BITS_63 {
            score as i64 as u64
        } else if score < 2.0 * BITS_63 {
            score as u64
        } else {
            0
        };
        let area = Cell { bits, steps: STEPS_MAX }.area();
        Place {
            longitude: f64::midpoint(area.west, area.east).clamp(-LONGITUDE_MAX, LONGITUDE_MAX),
            latitude: f64::midpoint(area.south, area.north).clamp(-LATITUDE_MAX, LATITUDE_MAX),
        }
    }

    /// As others write places: eleven letters, rows up to the poles. The last letter says nothing: there are not so many bits.
    pub fn text(self) -> String {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = self.cell(90.0, STEPS_MAX).bits;
        let letter = |index: u32| match index {
            10 => '0',
            _ => LETTERS[(bits >> (52 - (index + 1) * 5) & 31) as usize] as char,
        };
        (0..11).map(letter).collect()
    }

    /// Meters to another place, over the great circle.
    pub fn distance(self, other: Place) -> f64 {
        let half_longitude = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        if half_longitude == 0.0 {
            return self.distance_north(other);
        }
        let (from, to) = (radians(self.latitude), radians(other.latitude));
        let half_latitude = ((to - from) / 2.0).sin();
        let square = half_latitude * half_latitude + from.cos() * to.cos() * half_longitude * half_longitude;
        2.0 * EARTH_RADIUS * square.sqrt().asin()
    }

    /// Meters to the other place's latitude.
    fn distance_north(self, other: Place) -> f64 {
        EARTH_RADIUS * (radians(other.latitude) - radians(self.latitude)).abs()
    }
}

impl Shape {
    /// Meters from the middle to the farthest point.
    fn reach(self) -> f64 {
        match self {
            Shape::Circle(radius) => radius,
            Shape::Box(width, height) => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        }
    }

    /// The distance from the middle, if a place is within.
    fn distance(self, middle: Place, place: Place) -> Option<f64> {
        match self {
            Shape::Circle(radius) => Some(middle.distance(place)).filter(|&distance| distance <= radius),
            Shape::Box(width, height) => {
                let corner = Place { longitude: middle.longitude, latitude: place.latitude };
                let is_within =
                    middle.distance_north(place) <= height / 2.0 && place.distance(corner) <= width / 2.0;
                is_within.then(|| middle.distance(place))
            }
        }
    }

    /// The least box in degrees around it.
    fn bounds(self, middle: Place) -> Area {
        let (width, height) = match self {
            Shape::Circle(radius) => (radius, radius),
            Shape::Box(width, height) => (width / 2.0, height / 2.0),
        };
        let north = degrees(height / EARTH_RADIUS);
        let east_at = |latitude: f64| degrees(width / EARTH_RADIUS / radians(latitude).cos());
        // Towards the pole a degree is shorter.
        let east = if middle.latitude < 0.0 {
            east_at(middle.latitude - north)
        } else {
            east_at(middle.latitude + north)
        };
        Area {
            west: middle.longitude - east,
            east: middle.longitude + east,
            south: middle.latitude - north,
            north: middle.latitude + north,
        }
    }
}

impl Cell {
    fn area(self) -> Area {
        let scale = (1_u64 << self.steps) as f64;
        let (row, column) = (f64::from(gather(self.bits)), f64::from(gather(self.bits >> 1)));
        let latitude = |row: f64| -LATITUDE_MAX + row / scale * (2.0 * LATITUDE_MAX);
        let longitude = |column: f64| -LONGITUDE_MAX + column / scale * (2.0 * LONGITUDE_MAX);
        Area {
            west: longitude(column),
            east: longitude(column + 1.0),
            south: latitude(row),
            north: latitude(row + 1.0),
        }
    }

    /// The cell so many to the east and to the north: -1, 0 or 1. Beyond an end of the grid the other one follows.
    fn neighbour(self, east: i8, north: i8) -> Cell {
        let unused = 64 - self.steps * 2;
        // A direction's bits stand between the other's, which carry over its gaps.
        let moved = |bits: u64, own: u64, gaps: u64, by: i8| {
            let (own, gaps) = (own >> unused, gaps >> unused);
            let moved = match by {
                0 => bits,
                1.. => bits + (gaps + 1),
                _ => (bits | gaps).wrapping_sub(gaps + 1),
            };
            moved & own
        };
        let (columns, rows) = (self.bits & ODD, self.bits & EVEN);
        Cell { bits: moved(columns, ODD, EVEN, east) | moved(rows, EVEN, ODD, north), steps: self.steps }
    }

    /// The scores of places in it.
    fn scores(self) -> ScoreRange {
        let shift = 52 - self.steps * 2;
        let score = |bits: u64| (bits << shift) as f64;
        ScoreRange {
            min: score(self.bits),
            max: score(self.bits + 1),
            min_exclusive: false,
            max_exclusive: true,
        }
    }
}

/// How many bits a direction make cells of about this size.
fn steps_for(reach: f64, latitude: f64) -> u32 {
    if reach == 0.0 {
        return STEPS_MAX;
    }
    let (mut steps, mut reach) = (1_i32, reach);
    while reach < MERCATOR_MAX {
        reach *= 2.0;
        steps += 1;
    }
    steps -= 2;
    // Towards the poles cells are narrower.
    steps -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    steps.clamp(1, STEPS_MAX as i32) as u32
}

/// The cells that cover a shape, in the order they are looked at.
fn cells(middle: Place, shape: Shape) -> Vec<Cell> {
    let bounds = shape.bounds(middle);
    let mut steps = steps_for(shape.reach(), middle.latitude);
    let mut cell = middle.cell(LATITUDE_MAX, steps);
    let is_too_small = cell.neighbour(0, 1).area().north < bounds.north
        || cell.neighbour(0, -1).area().south > bounds.south
        || cell.neighbour(1, 0).area().east < bounds.east
        || cell.neighbour(-1, 0).area().west > bounds.west;
    if steps > 1 && is_too_small {
        steps -= 1;
        cell = middle.cell(LATITUDE_MAX, steps);
    }
    let area = cell.area();
    let is_useless = |(east, north): (i8, i8)| {
        steps >= 2
            && ((north < 0 && area.south < bounds.south)
                || (north > 0 && area.north > bounds.north)
                || (east < 0 && area.west < bounds.west)
                || (east > 0 && area.east > bounds.east))
    };
    let directions = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
    let mut cells: Vec<Cell> = directions
        .into_iter()
        .filter(|&direction| !is_useless(direction))
        .map(|(east, north)| cell.neighbour(east, north))
        .collect();
    // With few and large cells neighbours may be the same.
    cells.dedup();
    cells
}

/// Members of the set within a shape around a place, in the order they are found; with a `limit` (not 0) no more than that.
pub fn search(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    middle: Place,
    shape: Shape,
    limit: usize,
) -> Result<Vec<Found>, Interrupt> {
    let mut found = Vec::new();
    for cell in cells(middle, shape) {
        let ranks = zset::ranks_of_scores(view, key, entry, cell.scores())?;
        zset::visit_ranks(view, key, entry, ranks, false, &mut |(score, member)| {
            let place = Place::of_score(score);
            if let Some(distance) = shape.distance(middle, place) {
                found.push(Found { member: member.to_vec(), score, place, distance });
            }
            if limit > 0 && found.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if limit > 0 && found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALERMO: Place = Place { longitude: 13.361_389, latitude: 38.115_556 };
    const CATANIA: Place = Place { longitude: 15.087_269, latitude: 37.502_669 };

    #[test]
    fn places_have_the_scores_and_texts_of_redis() {
        // As redis-server 7.0.15 answers GEOADD, GEOHASH, GEOPOS and GEODIST.
        assert_eq!(PALERMO.score().to_string(), "3479099956230698");
        assert_eq!(CATANIA.score().to_string(), "3479447370796909");
        let palermo = Place::of_score(PALERMO.score());
        assert_eq!(palermo.text(), "sqc8b49rny0");
        assert_eq!(palermo.longitude.to_string(), "13.361389338970184");
        let catania = Place::of_score(CATANIA.score());
        assert_eq!(format!("{:.4}", palermo.distance(catania)), "166274.1516");
    }

    #[test]
    fn neighbours_lead_back_and_around() {
        for steps in [1, 2, 13, 26] {
            let cell = PALERMO.cell(LATITUDE_MAX, steps);
            for (east, north) in [(1, 0), (0, 1), (1, -1), (-1, -1)] {
                let neighbour = cell.neighbour(east, north);
                assert_ne!(neighbour, cell);
                assert_eq!(neighbour.neighbour(-east, -north), cell);
            }
            let mut around = cell;
            for _ in 0..1_u64 << steps.min(13) {
                around = around.neighbour(1, 0);
            }
            assert_eq!(around == cell, steps <= 13);
        }
    }

    #[test]
    fn bits_are_spread_and_gathered() {
        for number in [0, 1, 0xFFFF_FFFF, 0x1234_5678, 1 << 25] {
            assert_eq!(gather(spread(number)), number);
            assert_eq!(gather(spread(number) << 1 >> 1), number);
            assert_eq!(spread(number) & ODD, 0);
        }
    }

    #[test]
    fn cells_cover_what_is_within() {
        for reach in [0.0, 10.0, 1000.0, 200_000.0, 5_000_000.0, 1e9] {
            for shape in [Shape::Circle(reach), Shape::Box(reach, reach / 2.0)] {
                let cells = cells(PALERMO, shape);
                assert!(!cells.is_empty() && cells.len() <= 9);
                let is_covered =
                    |place: Place| cells.iter().any(|cell| place.cell(LATITUDE_MAX, cell.steps) == *cell);
                assert!(is_covered(PALERMO));
                if shape.distance(PALERMO, CATANIA).is_some() {
                    assert!(is_covered(CATANIA), "{shape:?}");
                }
            }
        }
    }
}
