//! Closed sets of words for headers, labels and log lines.

/// Defines an enum whose values stand for words, with `ALL`, `COUNT`, `index` and `as_str`. A macro, because a value that
/// is missing in one of several lists would be counted in no metric, and no test of one enum would tell of the next.
macro_rules! labels {
    (
        $(#[$about:meta])*
        pub enum $name:ident {
            $($(#[$what:meta])* $value:ident = $word:literal,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$what])* $value,)+
        }

        impl $name {
            /// Every value, in the order of its index.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$value),+];

            /// How many values there are.
            pub const COUNT: usize = [$($word),+].len();

            /// The place of this value in [`Self::ALL`].
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The word in headers, labels and log lines.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }
        }
    };
}

pub(super) use labels;
