// Package maps has sagas that range over maps.
package maps

import (
	"maps"
	"slices"
	"sort"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

func move(ctx saga.Context, customer string, to *customerv1.Address) error {
	_, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{Customer: customer, Address: to})
	return err
}

func moveEach(ctx saga.Context, homes map[string]*customerv1.Address) error {
	for customer, home := range homes { // want `a map has another order in each replay, so the calls inside have, too: sort its keys.*\(map-order\)`
		if err := move(ctx, customer, home); err != nil {
			return err
		}
	}
	return nil
}

func sleepEach(ctx saga.Context, homes map[string]*customerv1.Address) {
	for range maps.Keys(homes) { // want `the calls inside have, too.*\(map-order\)`
		saga.Sleep(ctx, 1)
	}
}

func moveCollected(ctx saga.Context, homes map[string]*customerv1.Address) error {
	for _, customer := range slices.Collect(maps.Keys(homes)) { // want `the calls inside have, too.*\(map-order\)`
		if err := move(ctx, customer, homes[customer]); err != nil {
			return err
		}
	}
	return nil
}

func moveAll(ctx saga.Context, homes map[string]*customerv1.Address) error {
	var customers []string
	for customer := range homes { // want `a map has another order in each replay, so customers has, too: .*or sort customers \(map-order\)`
		customers = append(customers, customer)
	}
	return saga.Each(ctx, customers, func(ctx saga.Context, customer string) error {
		return move(ctx, customer, homes[customer])
	})
}

func moveSorted(ctx saga.Context, homes map[string]*customerv1.Address) error {
	for _, customer := range slices.Sorted(maps.Keys(homes)) {
		if err := move(ctx, customer, homes[customer]); err != nil {
			return err
		}
	}
	return nil
}

func moveSortedLater(ctx saga.Context, homes map[string]*customerv1.Address) error {
	var customers []string
	for customer := range homes {
		customers = append(customers, customer)
	}
	sort.Strings(customers)
	for _, customer := range customers {
		if err := move(ctx, customer, homes[customer]); err != nil {
			return err
		}
	}
	return nil
}

func count(ctx saga.Context, homes map[string]*customerv1.Address) int {
	lines := 0
	for _, home := range homes {
		saga.Logger(ctx).Info("counting")
		lines += len(home.GetLines())
	}
	return lines
}
