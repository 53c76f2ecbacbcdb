// Package helvetype has the plain data of Helve's API: statuses, counts, error codes and error reasons.
//
// Package helve and the packages below it share these types, and the signatures of package helve name them. For example,
// [github.com/helve-serve/helve.System.Status] returns a [Status], and [github.com/helve-serve/helve.Error.Code] a [Code].
// The package imports the standard library only, so a client of Helve's JSON can use it alone.
package helvetype
