//! Places for labels beside their points, so that no label covers another, a mark or an interval.

/// A rectangle of pixels: left, top, right, bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) left: i32,
    pub(crate) top: i32,
    pub(crate) right: i32,
    pub(crate) bottom: i32,
}

impl Area {
    pub(crate) fn around((x, y): (i32, i32), width: i32, height: i32) -> Self {
        Self { left: x - width, top: y - height, right: x + width, bottom: y + height }
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn holds(&self, other: &Self) -> bool {
        self.left <= other.left
            && other.right <= self.right
            && self.top <= other.top
            && other.bottom <= self.bottom
    }

    pub(crate) fn centre(&self) -> (i32, i32) {
        (i32::midpoint(self.left, self.right), i32::midpoint(self.top, self.bottom))
    }
}

/// Directions from a point, the best first. Below comes before above: labels are placed from top to bottom, and
/// so keep the order of their points.
const DIRECTIONS: [(i32, i32); 8] =
    [(1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, -1), (0, 1)];

/// Where a label of each size may lie, for points in this order; None for one that finds no place within
/// `furthest` pixels. `taken` is what they must not cover.
pub(crate) fn places(
    points: &[(i32, i32)],
    sizes: &[(i32, i32)],
    taken: &[Area],
    inside: &Area,
    furthest: i32,
) -> Vec<Option<Area>> {
    let mut taken = taken.to_vec();
    let mut found = Vec::new();
    for (point, size) in points.iter().zip(sizes) {
        let distances = (0..).map(|ring| 7 + 6 * ring).take_while(|it| *it <= furthest);
        let around = distances.flat_map(|far| DIRECTIONS.map(|to| beside(*point, *size, to, far)));
        let free = |area: &Area| inside.holds(area) && !taken.iter().any(|it| it.meets(area));
        let area = around.into_iter().find(free);
        taken.extend(area);
        found.push(area);
    }
    found
}

fn beside((x, y): (i32, i32), (width, height): (i32, i32), to: (i32, i32), far: i32) -> Area {
    let along = |at: i32, size: i32, to: i32| match to {
        1 => at + far,
        -1 => at - far - size,
        _ => at - size / 2,
    };
    // Straight to the side, a label lies at the height of its point.
    let (left, top) = (along(x, width, to.0), along(y, height, to.1));
    Area { left, top, right: left + width, bottom: top + height }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: Area = Area { left: 0, top: 0, right: 400, bottom: 300 };

    #[test]
    fn no_label_covers_another_or_a_mark() {
        let points: Vec<_> = (0..24).map(|i| (100 + 9 * i, 100 + 7 * (i % 5))).collect();
        let marks: Vec<_> = points.iter().map(|point| Area::around(*point, 5, 5)).collect();
        let found = places(&points, &[(16, 12); 24], &marks, &INSIDE, 80);
        let found: Vec<Area> = found.into_iter().map(Option::unwrap).collect();
        for (i, area) in found.iter().enumerate() {
            assert!(INSIDE.holds(area));
            assert!(found[..i].iter().chain(&marks).all(|it| !it.meets(area)), "{i}");
        }
    }

    #[test]
    fn where_there_is_no_place_none_is_made_up() {
        assert_eq!(places(&[(5, 5)], &[(500, 12)], &[], &INSIDE, 80), [None]);
    }
}
